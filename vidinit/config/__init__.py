"""Typed run configuration: every setting, its default, its range, and what it means.

The text under each field is its help. `vidinit.configure` fills these classes from presets, files,
overrides and flags.
"""

from .commands import (
    COMMANDS,
    DEFAULT,
    CotrainConfig,
    DistillConfig,
    EvaluateConfig,
    FinetuneConfig,
    RunConfig,
    TrainRunConfig,
)
from .cotrain import CotrainSection, SourceConfig
from .data import DataConfig
from .distill import DistillSection
from .scoring import EvalConfig, EvaluateSection, TextSection
from .section import Section
from .train import TrainConfig

__all__ = [
    "COMMANDS",
    "DEFAULT",
    "CotrainConfig",
    "CotrainSection",
    "DataConfig",
    "DistillConfig",
    "DistillSection",
    "EvalConfig",
    "EvaluateConfig",
    "EvaluateSection",
    "FinetuneConfig",
    "RunConfig",
    "Section",
    "SourceConfig",
    "TextSection",
    "TrainConfig",
    "TrainRunConfig",
]
