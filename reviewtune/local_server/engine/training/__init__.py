"""Fine-tuning a model: examples, packing, frozen layers, loss and checkpoints."""
