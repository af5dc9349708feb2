"""Read what servers send: within limits, in any shape, and as far as it can be read."""
