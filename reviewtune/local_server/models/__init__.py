"""The API resource /v1/models."""
