"""Sentences about arms: what an arm cannot do with a data set, and what its result does not show at first sight."""
