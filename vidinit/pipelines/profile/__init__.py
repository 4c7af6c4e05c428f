"""Costs of models, measured side by side."""
