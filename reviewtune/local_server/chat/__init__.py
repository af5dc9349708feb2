"""The API resource /v1/chat/completions."""
