"""Temporal plans: an image network is read, its layers are chosen, and changed."""
