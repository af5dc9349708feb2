"""What programs show in a terminal: how they start and end, progress, the time left, and tables."""
