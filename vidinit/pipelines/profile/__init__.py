"""What models cost, measured side by side."""
