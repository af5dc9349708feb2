"""How an arm label is decided from log-probabilities, and whether the label prior is corrected."""
