"""Weights, training and generation. The only place that imports torch, transformers and peft, and only inside
the modules that compute (training, generation); `types` and `weights`' catalogue import in milliseconds."""
