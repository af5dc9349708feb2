"""For applications: classify reviews with the promoted model, and say which issues are frequent or new."""
