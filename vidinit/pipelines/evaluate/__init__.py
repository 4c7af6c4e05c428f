"""Scoring labeled videos with several views, and scoring saved predictions again."""
