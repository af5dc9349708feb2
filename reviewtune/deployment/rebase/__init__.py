"""Move to another provider: train the champion's data there, and show whether the new model is as good."""
