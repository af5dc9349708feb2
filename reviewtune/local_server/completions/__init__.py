"""The API resource /v1/completions: a model continues a text as it is, without a chat template."""
