"""Classify files of any size: read as a stream, written in parts, continued after an interruption."""
