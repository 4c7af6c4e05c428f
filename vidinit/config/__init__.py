"""Typed run configuration: every setting, its default, its range, and what it means.

The text under each field is its help. `vidinit.config.build` fills these classes from presets,
files, overrides and flags; a command's own ones stand beside its pipeline.
"""

from .base import DEFAULT, RunConfig, TrainRunConfig
from .data import DataConfig
from .detect import DetectConfig, DetectScoring
from .scoring import EvalConfig, TextSection
from .section import Section
from .train import TrainConfig

__all__ = [
    "DEFAULT",
    "DataConfig",
    "DetectConfig",
    "DetectScoring",
    "EvalConfig",
    "RunConfig",
    "Section",
    "TextSection",
    "TrainConfig",
    "TrainRunConfig",
]
