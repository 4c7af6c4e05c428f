"""Boxes on the demo's clips: a detector beside the same head on the whole frame, over seeds.

    python -m tests.benchmarks.detect_demo [--seeds 3] [--quick] [--trunk FOLDER] --out FOLDER

The trunk is the demo's: trained once, on motions of whole frames, or given. Each seed has clips
with boxes of its own, trains both heads on them, and scores them in 480 true boxes of footage that
was in no training; then boxes are found by what moves. A line of `results.jsonl` is one seed: a
run that was stopped goes on there. Printed are each seed's values and their means.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import vidinit
from vidinit.demo.clips import choose_footage, make_clips
from vidinit.demo.detect import SIZES, heads, scored
from vidinit.demo.patches import make_patch_clips
from vidinit.demo.run import BACKBONE, PRESET
from vidinit.engine.run_folder import RunFolder
from vidinit.scoring.detections import load

HERE: dict[str, Any] = {"device": "cpu", "precision": "fp32"}
LINES = {
    "accuracy per box, the boxes": "detector",
    "accuracy per box, the whole frame": "whole",
    "frame-AP, true boxes": "detector_ap",
    "frame-AP of the whole frame": "whole_ap",
    "recall of boxes by motion": "recall",
    "frame-AP in boxes by motion": "motion_ap",
}


def trunk_of(out: Path, *, quick: bool) -> Path:
    """The demo's model, trained on motions of whole frames with seed 0."""
    if not (out / "trunk" / "result.json").is_file():
        clips = make_clips(
            out, choose_footage(None), train=SIZES[quick][0], test=20, unlabelled=0, seed=0
        )
        vidinit.convert(
            BACKBONE, "s3d", out=out / "converted", frames=8, size=64, seed=0, overwrite=True
        )
        vidinit.finetune(
            out / "converted",
            data=clips.labelled,
            out=out / "trunk",
            preset=PRESET,
            seed=0,
            overwrite=True,
            **HERE,
        )
    return out / "trunk"


def one_seed(out: Path, trunk: Path, seed: int, *, quick: bool) -> dict[str, float]:
    """Both heads, and boxes by motion."""
    run = RunFolder.open(out / f"seed-{seed}", overwrite=True)
    folder = run.claim("patches")
    folder.mkdir()
    _, train, test = SIZES[quick]
    patches = make_patch_clips(folder, choose_footage(None), train=train, test=test, seed=seed)
    detector, whole = heads(run, trunk, patches, seed=seed, computing=HERE, **HERE)
    vidinit.predict(
        detector.run,
        patches.folder / "val",
        people="motion",
        out=run.claim("predictions"),
        video=False,
        topk=6,
        **HERE,
    )
    motion = scored(load(run.root / "predictions"), patches)
    return {
        "detector": detector.accuracy,
        "whole": whole.accuracy,
        "detector_ap": detector.frame_ap,
        "whole_ap": whole.frame_ap,
        "recall": motion["recall"],
        "motion_ap": motion["frame_ap"],
    }


def main() -> None:
    """Train what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="that it runs; figures mean nothing")
    parser.add_argument("--trunk", type=Path, help="a trained model of the demo; default: train it")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "results.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    found = {one["seed"]: one for one in map(json.loads, lines)}
    trunk = options.trunk or trunk_of(out, quick=options.quick)
    for seed in range(options.seeds):
        if seed not in found:
            found[seed] = {"seed": seed, **one_seed(out, trunk, seed, quick=options.quick)}
            with open(kept, "a") as file:
                print(json.dumps(found[seed]), file=file)
    names = [f"seed {seed}" for seed in range(options.seeds)]
    print(f"| | {' | '.join(names)} | mean |\n|---|{'---|' * (len(names) + 1)}")
    for title, key in LINES.items():
        values = [found[seed][key] for seed in range(options.seeds)]
        cells = " | ".join(f"{value:.3f}" for value in values)
        print(f"| {title} | {cells} | {mean(values):.3f} |")


if __name__ == "__main__":
    main()
