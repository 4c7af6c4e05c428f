"""`vidinit fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import options as opt
from .derived import command
from .options import INPUT, TRAINING


@command(
    "fit",
    arguments={"videos": "VIDEOS", "overrides": "[SECTION.KEY=VALUE]..."},
    kinds={"videos": Path},
    panels={INPUT: "unlabelled", TRAINING: "budget"},
)
def fit(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Train, and say what came of it.

    Examples:
        vidinit fit videos/
        vidinit fit labels.csv --budget 1h --out runs/mine
        vidinit fit videos/ --unlabelled raw/ data.size=160
        vidinit fit videos/ --out runs/mine --resume
    """
    import vidinit

    result = vidinit.fit(**keywords)
    if json or not keywords["dry_run"]:
        opt.print_fit(result, as_json=json)
