"""Video networks, one paper a file."""
