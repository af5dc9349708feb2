"""Comparison of the arms: tests, cost, confidence, and the reports made from them."""
