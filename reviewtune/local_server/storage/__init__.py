"""The account on disk: its database, its folders, and the ids that follow from content."""
