"""Parameters that are not trained, by name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import UsageError, suggest
from ..base import VideoModel


def freeze(model: VideoModel, patterns: Sequence[str]) -> list[str]:
    """Keep parameters as they are.

    Batch norms whose parameters are all frozen should keep their statistics, too: call
    `hold_frozen_norms` after every ``train()``.

    Args:
        model: its parameters lose their gradients.
        patterns: of parameter names, with the wildcards of `fnmatch`: ``stem*``, ``layer1.*``,
            ``*.bn?.weight``.

    Returns:
        Names of the parameters that a pattern matched.

    Raises:
        UsageError: for a pattern that matches nothing, with a suggestion, and when no parameter
            would be left to train.
    """
    parameters = dict(model.named_parameters())
    frozen: set[str] = set()
    for pattern in patterns:
        found = [name for name in parameters if fnmatchcase(name, pattern)]
        if not found:
            raise UsageError(
                f"train.freeze: '{pattern}' matches no parameter of {_name(model)}",
                _advice(model, pattern),
            )
        frozen.update(found)
    if not any(p.requires_grad for name, p in parameters.items() if name not in frozen):
        raise UsageError(
            f"train.freeze={list(patterns)} leaves no parameter of {_name(model)} to train",
            "freeze less, or use train.freeze=trunk to train the head alone",
        )
    for name in frozen:
        parameters[name].requires_grad_(False)
    return [name for name in parameters if name in frozen]


def _name(model: VideoModel) -> str:
    return model.name or type(model).__name__


def _advice(model: VideoModel, pattern: str) -> str:
    modules = [name for name, _ in model.named_modules() if name]
    if pattern in modules:
        return f"all of it is '{pattern}.*'"
    word = pattern.rstrip(".*?")
    # Inside a converted image network the names people know begin one level further down.
    if f"trunk.{word}" in modules:
        return f"did you mean 'trunk.{word}.*'?"
    top = ", ".join(f"{name}.*" for name, module in model.named_children() if _has_any(module))
    return suggest(word, modules) or f"its parts are {top}"


def _has_any(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def batch_norms(module: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """The batch norms that keep statistics, by name."""
    return [
        (name, norm)
        for name, norm in module.named_modules()
        if isinstance(norm, _BatchNorm) and norm.track_running_stats
    ]


def frozen_norms(module: nn.Module) -> list[nn.Module]:
    """The batch norms that have parameters, none of which is trained."""
    return [
        norm
        for norm in module.modules()
        if isinstance(norm, _BatchNorm)
        and norm.affine
        and not any(p.requires_grad for p in norm.parameters(recurse=False))
    ]


def hold_frozen_norms(module: nn.Module) -> None:
    """Put `frozen_norms` into eval mode, so that they keep and use their statistics.

    ``module.train()`` undoes it, so whoever overrides ``train`` calls this last.
    """
    for norm in frozen_norms(module):
        norm.eval()


def hold_norms(model: nn.Module) -> None:
    """All batch norms into eval mode: they keep, and normalize with, the statistics they have."""
    for _, norm in batch_norms(model):
        norm.eval()
