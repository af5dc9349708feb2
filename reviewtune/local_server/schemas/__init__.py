"""What clients send, as strict types: requests and files share them, so that both accept the same messages."""
