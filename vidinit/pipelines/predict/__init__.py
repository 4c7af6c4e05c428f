"""Predictions for any number of files, or over the time of long ones."""
