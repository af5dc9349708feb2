"""The local provider as its clients see it: the server of the user's account."""
