"""Frozen image transformers, and what learns inside or beside them."""
