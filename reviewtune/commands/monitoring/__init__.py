"""The commands about a model after its launch."""
