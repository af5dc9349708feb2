"""What comes after a run: taking a model to where it is used."""
