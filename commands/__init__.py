"""The command line: one thin file per subcommand, options in, a call into vidinit out."""

from __future__ import annotations

from .app import app

__all__ = ["app"]
