"""Evaluation of arms: asking models, scoring their answers, and the result files."""
