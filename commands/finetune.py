"""`vidinit finetune`."""

from __future__ import annotations

from typing import Any

from . import options as opt
from .derived import command
from .options import INPUT, TRAINING


@command("finetune", panels={INPUT: "shots", TRAINING: "freeze option probe whole"})
def finetune(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Train, and say how it ended.

    Examples:
        vidinit finetune runs/convert-s3d-1 --data videos/ --epochs 20
        vidinit finetune sts-r3d50 --data list.txt --val val.txt train.lr=0.02
        vidinit finetune r2plus1d-18 --data videos/ --out runs/mine --resume
        vidinit finetune runs/mine --data more/ --probe linear --probe attentive:lr=0.001
    """
    import vidinit

    result = vidinit.finetune(**keywords)
    if "answer" in result:  # no MODEL: it was a fit
        opt.print_fit(result, as_json=json)
    elif "choices" not in result or json:
        opt.print_training(result, as_json=json, dry_run=keywords["dry_run"])
