"""What this project depends on at providers, and when it ends."""
