"""Choose the reviews that a person should label, and bring the labels into the raw data."""
