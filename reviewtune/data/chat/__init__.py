"""Chat files: training examples in OpenAI's JSON Lines, and the tool calls in them."""
