"""Models for other programs: weights, graphs that are checked, and the hub."""
