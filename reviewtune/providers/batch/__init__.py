"""Many requests in one file: the Batch API and the files that it returns."""
