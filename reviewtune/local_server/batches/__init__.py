"""The API resource /v1/batches."""
