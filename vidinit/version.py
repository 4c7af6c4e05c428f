"""The version of vidinit, also of what it writes into files."""

__version__ = "0.1.0"
