"""Commands about models in use."""
