"""Clips and batches by key, made in processes that may hang or die."""
