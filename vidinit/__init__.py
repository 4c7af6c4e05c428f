"""Start video recognition models from image models.

The functions here are the commands of the same names, with the same defaults. Nothing heavy is
imported until one of them is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

_PUBLIC = {
    "check_data": "vidinit.pipelines.data.check",
    "convert": "vidinit.pipelines.convert",
    "cotrain": "vidinit.pipelines.cotrain.api",
    "create_model": "vidinit.zoo.build",
    "distill": "vidinit.pipelines.distill.api",
    "evaluate": "vidinit.pipelines.evaluate.api",
    "export": "vidinit.exports.export",
    "export_metadata": "vidinit.exports.metadata",
    "finetune": "vidinit.pipelines.finetune.api",
    "fit": "vidinit.pipelines.fit.api",
    "list_models": "vidinit.zoo.names",
    "load": "vidinit.checkpoint",
    "predict": "vidinit.pipelines.predict.api",
    "prepare_data": "vidinit.pipelines.data.prepare",
    "profile": "vidinit.pipelines.profile.api",
    "VidinitError": "vidinit.errors",
}
_ROOMS = (
    "config",
    "conversion",
    "data",
    "detection",
    "engine",
    "errors",
    "exports",
    "measure",
    "pipelines",
    "report",
    "scoring",
    "text",
    "zoo",
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
    "fit",
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
    from .errors import VidinitError
    from .exports.export import export
    from .exports.metadata import export_metadata
    from .pipelines.convert import convert
    from .pipelines.cotrain.api import cotrain
    from .pipelines.data.check import check_data
    from .pipelines.data.prepare import prepare_data
    from .pipelines.distill.api import distill
    from .pipelines.evaluate.api import evaluate
    from .pipelines.finetune.api import finetune
    from .pipelines.fit.api import fit
    from .pipelines.predict.api import predict
    from .pipelines.profile.api import profile
    from .zoo.build import create_model
    from .zoo.names import list_models
