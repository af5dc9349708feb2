"""Scores, intervals, tests and calibration as functions of labels and predictions."""
