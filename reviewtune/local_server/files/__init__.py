"""The API resource /v1/files."""
