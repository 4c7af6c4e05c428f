"""Temporal plans, one a file: an image network is read, its layers are chosen, and changed."""
