"""Training clips that are held out to choose the best of several probes on.

What is reported of the chosen one, its score on the validation clips, has then had no part in the
choice, however many settings were tried.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from typing import Any

from ...config import TrainConfig
from ...config.probe_text import named_probes
from ...console import say, with_messages
from ...data.rows import Row, Rows
from ...data.sources import hold_out
from ...errors import UsageError
from ..shared.clips import clip_key

_UCF_GROUP = re.compile(r"(v_\w+_g\d+)_c\d+", re.ASCII)
"""Names of UCF101's files: clips of one group were cut from one film."""


def for_choice(rows: Rows, train: TrainConfig, *, scored: bool = True) -> tuple[Rows, Rows | None]:
    """The clips that are trained on, and those that one of several probes is chosen on.

    A share of each class, by the seed; clips of one file, and of one of UCF101's groups, stay
    together. None where there is nothing to choose.

    Args:
        rows: all training rows.
        train: the probes, the share and the seed.
        scored: False where nothing is evaluated, so that nothing could be chosen.

    Raises:
        UsageError: no class has clips to spare.
    """
    count = len(named_probes(train.probes))
    if count < 2:
        return rows, None
    if train.probe_holdout == 0 or not scored:
        why = "train.probe_holdout=0" if scored else "eval.every=0"
        say(f"{why}: no clips are held out to choose a probe on, the first is saved")
        return rows, None
    kept, held = with_messages(lambda: hold_out(rows, train.probe_holdout, train.seed, group_of))
    if not len(held):
        raise UsageError(
            f"the best of {count} probes is chosen on training clips that are held out, and no "
            "class has two",
            "give more clips, or one --probe; with train.probe_holdout=0 the first is saved",
        )
    say(
        f"{len(held)} of {len(rows)} training clips are held out to choose among {count} probes "
        f"(train.probe_holdout={train.probe_holdout:g})"
    )
    return kept, held


def group_of(row: Row) -> Hashable:
    """A key shared by rows that show the same scene: the data's group, UCF101's, or their file."""
    if row.group is not None:
        return row.group
    name = os.path.splitext(os.path.basename(row.path))[0]
    found = _UCF_GROUP.fullmatch(name)
    return found[1] if found else row.path


def record(held: Rows, train: TrainConfig) -> dict[str, Any]:
    """held_out.json: which clips a probe was chosen on, by path and segment."""
    return {
        "share": train.probe_holdout,
        "seed": train.seed,
        "clips": [list(clip_key(row)) for row in held.rows],
    }
