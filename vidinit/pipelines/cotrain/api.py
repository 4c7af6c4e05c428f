"""`vidinit.cotrain`: the keywords are the flags of the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UsageError, suggest
from ..shared.arguments import Overrides, named_texts, training_flags


def cotrain(
    model: str | Path | None = None,
    *,
    sources: Mapping[str, str | Path] | Sequence[str] | None = None,
    images: Mapping[str, str | Path] | Sequence[str] | None = None,
    merge_labels: bool = False,
    ablate: bool = False,
    val_fraction: float | None = None,
    modality: str | None = None,
    max_bad: float | str | None = None,
    init_from: str | Path | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    overrides: Overrides = (),
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | str | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Train one trunk on several video sets and image sets, a head each (CoVeR-style).

    Args:
        model: zoo name, model folder or run folder.
        sources: a video set as ``NAME=DIR[,key=value...]``, or a mapping of several; the first is
            the primary one.
        images: an image set likewise; images are clips of one frame.
        merge_labels: video sources that have classes in common share a head; clips that one of them
            validates on, or another one trains on, are left out.
        ablate: train on each subset of the sources that has a video set, a run each in a folder
            below ``out``, and one table: what does a source gain from the others?
        val_fraction: share of each class held out where a source has no validation data.
        modality: as for `finetune`; images have no optical flow.
        max_bad: as for `finetune`, for each source.
        init_from, out, preset, config, overrides, epochs, lr, batch_size, seed, device, precision,
            processes, resume, overwrite, dry_run: as for `finetune`.

    Returns:
        ``{out, steps, best, videos, skipped, sources, notes}``; ``best`` is the primary source's
        top-1, ``notes`` are sentences on skewed classes, on validation clips that are trained on,
        and on an epoch that was chosen on these. With ``ablate`` ``runs`` has the result of each
        (`pipelines.run_set`).
    """
    from ...config.build import build
    from ..run import run_training
    from ..run_set import run_set
    from .settings import CotrainConfig
    from .source import check_several
    from .subsets import subsets

    listed = [parse_source(text, "video") for text in named_texts(sources)]
    listed += [parse_source(text, "image") for text in named_texts(images)]
    flags = {
        **training_flags(model, init_from, out, device, precision, batch_size, epochs, lr, seed),
        "data.val_fraction": val_fraction,
        "data.modality": modality,
        "data.max_bad": max_bad,
        "sources": listed or None,
        "cotrain.merge_labels": merge_labels or None,
        "cotrain.ablate": ablate or None,
    }
    built = build(CotrainConfig, preset=preset, file=config, overrides=overrides, flags=flags)
    if built.cotrain.ablate:
        return run_set(
            *("cotrain", built, subsets(built)),
            processes=processes,
            resume=resume,
            overwrite=overwrite,
            dry_run=dry_run,
        )
    if len(built.sources) == 1:
        check_several(built)
    return run_training(
        "cotrain", built, processes, resume=resume, overwrite=overwrite, dry_run=dry_run
    )


def parse_source(text: str, kind: str) -> dict[str, Any]:
    """``NAME=DIR[,key=value...]`` as the values of a `SourceConfig`.

    Raises:
        UsageError: for another form, or an unknown key.
    """
    from .settings import SourceConfig

    first, *rest = text.split(",")
    name, equals, path = first.partition("=")
    if not equals or not name or not path:
        raise UsageError(f"'{text}' is no source", "write NAME=DIR, or NAME=DIR,frames=16")
    values: dict[str, Any] = {"name": name, "data": path, "kind": kind}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in SourceConfig.model_fields:
            known = list(SourceConfig.model_fields)
            raise UsageError(
                f"unknown setting '{part}' of source '{name}'",
                suggest(key, known) or f"settings are {', '.join(known)}",
            )
        values[key] = value
    return values
