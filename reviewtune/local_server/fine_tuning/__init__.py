"""The API resource /v1/fine_tuning/jobs."""
