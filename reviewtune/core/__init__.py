"""Configuration, paths, files and progress; nothing in core knows a review, a provider or a model."""
