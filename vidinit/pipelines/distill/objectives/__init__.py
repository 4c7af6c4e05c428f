"""Objectives of a student that learns from teachers, one a file; `base` has the interface."""
