"""The API resource /v1/responses."""
