"""Fine-tuning jobs at any provider: cost, creation, progress, loss curve, and the record of the model."""
