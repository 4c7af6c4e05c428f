"""CoVeR: one trunk, several video sets and image sets."""
