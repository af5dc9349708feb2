"""The configuration: conf/ composed into params.yaml, and the typed sections that functions take."""
