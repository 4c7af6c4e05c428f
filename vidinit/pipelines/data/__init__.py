"""Checking and copying video data."""
