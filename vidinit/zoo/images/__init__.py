"""Image networks, and where their weights come from."""
