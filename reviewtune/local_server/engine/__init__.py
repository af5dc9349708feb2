"""Model weights, training and generation; the only package that imports torch and transformers."""
