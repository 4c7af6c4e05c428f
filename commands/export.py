"""`vidinit export`."""

from __future__ import annotations

from typing import Any

from . import options as opt
from .derived import command
from .options import OUTPUT
from .profile import numbers

HUB = "The hub"
GRAPH = "Graphs"


@command(
    "export",
    panels={
        "Options": "out",
        GRAPH: "fuse batch_check tolerance",
        HUB: "push_to_hub public",
        OUTPUT: "overwrite",
    },
    arguments={"model": "MODEL"},
)
def export(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Export, and say what was written and how far it is from the model.

    Examples:
        vidinit export runs/finetune-mine-1 --out mine.onnx
        vidinit export runs/finetune-mine-1 --out mine.pt2 --fuse --batch-check 1,8
        vidinit export runs/finetune-mine-1 --layout torchvision --out mine.pth
        vidinit export runs/finetune-mine-1 --push-to-hub me/mine
    """
    import vidinit

    keywords["batch_check"] = numbers(keywords["batch_check"], "--batch-check")
    report = vidinit.export(**keywords)
    if json:
        opt.print_json(report)
    else:
        for line in lines(report):
            opt.put(line)


def lines(report: dict[str, Any]) -> list[str]:
    """The outcome, for people."""
    out = []
    if "max_difference" in report:
        sizes = " and ".join(map(str, report["batches"]))
        out.append(
            f"largest difference from the model {report['max_difference']:.1e} (largest output "
            f"{report['scale']:.3g}), run with batches of {sizes}"
        )
    if "tensors" in report:
        keys = "its own keys" if report["layout"] is None else f"the layout {report['layout']}"
        out.append(f"{report['tensors']} tensors under {keys}")
    if "out" in report:
        out.append(f"{report['format']}: {report['out']}")
    if "hub" in report:
        kind = "private" if report["private"] else "public"
        out.append(f"{kind} repository: {report['url']}")
        out.append(f"next: vidinit predict {report['hub']} VIDEO")
    return out
