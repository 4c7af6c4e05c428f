"""`vidinit cotrain`."""

from __future__ import annotations

from typing import Any

from . import options as opt
from .derived import command
from .options import INPUT


@command("cotrain", panels={INPUT: "merge_labels ablate"}, names={"sources": "source"})
def cotrain(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Train, and say how it ended.

    Examples:
        vidinit cotrain r3d50 --source k400=kinetics/ --source ssv2=something/,flip=false
        vidinit cotrain runs/convert-s3d-1 --source mine=videos/ --images photos=pictures/
        vidinit cotrain sts-r3d50 --source a=a.txt,share=0.7 --source b=b.txt,share=0.3
        vidinit cotrain timesformer-b16 --source k400=k400/ --source k700=k700/ --merge-labels
        vidinit cotrain timesformer-b16 --source k400=k400/ --source ssv2=ssv2/ --ablate
    """
    import vidinit

    opt.print_training(vidinit.cotrain(**keywords), as_json=json, dry_run=keywords["dry_run"])
