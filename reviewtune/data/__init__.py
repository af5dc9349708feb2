"""Labelled reviews: reading, checks, splits, prompts and the chat files made from them."""
