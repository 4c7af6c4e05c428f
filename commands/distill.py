"""`vidinit distill`."""

from __future__ import annotations

from typing import Any

from . import options as opt
from .derived import command
from .options import INPUT

REPORT = "Report"


@command(
    "distill",
    panels={INPUT: "picks keep cache student option", REPORT: "report data against"},
    arguments={"overrides": "[SECTION.KEY=VALUE]..."},
    kinds={"keep": str},
)
def distill(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Train, or draw the pictures of ``--report``, and say how it ended.

    Examples:
        vidinit distill --teacher imagenet --videos ./raw
        vidinit distill --teacher imagenet-lite --videos ./raw --student runs/convert-s3d-1
        vidinit distill --teacher resnet50=r50.pth --videos list.txt --picks random:2
        vidinit distill --teacher imagenet --teacher dinov2,weight=0.5 --videos ./raw \
            --cache teachers distill.view=frame
        vidinit distill --teacher imagenet --videos ./raw --keep 0.3,0.5,0.8,1 --out runs/kept
        vidinit distill --report runs/distilled --data videos/ --against runs/start
    """
    import vidinit

    result = vidinit.distill(**keywords)
    if keywords["report"] is None or json:
        opt.print_training(result, as_json=json, dry_run=keywords["dry_run"])
        return
    from vidinit.pipelines.distill.report import lines_of

    for line in lines_of(result):
        opt.put(line)
