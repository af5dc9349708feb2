"""On which side of the split a review is: by its file, by an earlier run, or by the shares."""
