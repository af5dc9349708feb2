"""`reviewtune check-data`: find what would spoil a fine-tune in a file of labelled reviews."""
