"""Commands about the model that applications use."""
