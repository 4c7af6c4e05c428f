"""Start video recognition models from image models.

The functions here are the commands of the same names, with the same defaults. Nothing heavy is
imported until one of them is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "check_data": "vidinit.recipes.check",
    "convert": "vidinit.conversion.convert",
    "cotrain": "vidinit.recipes.api",
    "create_model": "vidinit.zoo.build",
    "distill": "vidinit.recipes.api",
    "evaluate": "vidinit.recipes.evaluation",
    "export": "vidinit.exports.export",
    "export_metadata": "vidinit.exports.metadata",
    "finetune": "vidinit.recipes.api",
    "list_models": "vidinit.zoo.names",
    "load": "vidinit.checkpoint",
    "predict": "vidinit.recipes.predict",
    "prepare_data": "vidinit.recipes.prepare",
    "profile": "vidinit.recipes.profile",
    "VidinitError": "vidinit.errors",
}
_ROOMS = (
    "zoo",
    "conversion",
    "data",
    "tasks",
    "engine",
    "measure",
    "recipes",
    "report",
    "config",
    "errors",
)

__all__ = [
    "VidinitError",
    "__version__",
    "check_data",
    "convert",
    "cotrain",
    "create_model",
    "distill",
    "evaluate",
    "export",
    "export_metadata",
    "finetune",
    "list_models",
    "load",
    "predict",
    "prepare_data",
    "profile",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"vidinit.{name}")
    raise AttributeError(f"module 'vidinit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])


if TYPE_CHECKING:
    from .checkpoint import load
    from .conversion.convert import convert
    from .errors import VidinitError
    from .exports.export import export
    from .exports.metadata import export_metadata
    from .recipes.api import cotrain, distill, finetune
    from .recipes.check import check_data
    from .recipes.evaluation import evaluate
    from .recipes.predict import predict
    from .recipes.prepare import prepare_data
    from .recipes.profile import profile
    from .zoo.build import create_model
    from .zoo.names import list_models
