"""Answering chats with a model: decoding, constraints and incremental text."""
