"""Copies of a data set that decode fast and exactly."""
