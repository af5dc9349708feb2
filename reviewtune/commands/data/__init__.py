"""The commands about labelled reviews that come before a run."""
