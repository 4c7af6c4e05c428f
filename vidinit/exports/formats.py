"""Formats of exported files, by suffix, and the packages they take; nothing heavy is imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from ..errors import UsageError
from ..extras import install_extra
from ..zoo.names import check_option

GRAPHS = {"onnx": ".onnx", "torch": ".pt2"}
FORMATS = {**GRAPHS, "safetensors": ".safetensors"}
"""Formats and their suffixes; weights under a layout's keys may be pickles, too."""
PICKLES = (".pth", ".pt", ".pyth")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def format_of(out: Path, form: str | None, layout: str | None) -> str:
    """The format of a file: a key of `FORMATS`, or ``pickle``.

    Args:
        out: the file.
        form: ``--format``; None: by the suffix.
        layout: ``--layout``.

    Raises:
        UsageError: for an unknown format, and things that do not go together.
    """
    if form is not None:
        check_option("format", form, list(FORMATS))
        if out.suffix != FORMATS[form]:
            raise UsageError(
                f"--out {out} is no {FORMATS[form]} file", f"--format {form} writes one"
            )
    by_suffix = {suffix: name for name, suffix in FORMATS.items()}
    if layout is not None:
        by_suffix |= dict.fromkeys(PICKLES, "pickle")
    if out.suffix not in by_suffix:
        needs = " with --layout" if out.suffix in PICKLES else ""
        hint = f"{out.suffix} goes{needs}" if needs else f"use {', '.join(by_suffix)}"
        raise UsageError(f"--out {out} has no known suffix", hint)
    found = by_suffix[out.suffix]
    if layout is not None and found in GRAPHS:
        raise UsageError(
            f"--layout {layout} names tensors, and {out.suffix} holds a graph",
            f"leave it out, or write {', '.join((*PICKLES, FORMATS['safetensors']))}",
        )
    return found


def require_onnx(names: Iterable[str] = ONNX_PACKAGES) -> None:
    """Raise UsageError, with how to install them, unless packages for ONNX are there."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"ONNX needs {' and '.join(missing)}, not installed here", install_extra("onnx")
        )
