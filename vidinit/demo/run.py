"""`vidinit demo`: the main job from end to end, through the same functions a user calls.

Clips whose label is their motion are made from real footage. An image model becomes a video model;
it is distilled on unlabelled clips; then the same fine-tuning starts from random weights, from the
converted model and from the distilled one. A linear head on the image model's features of the
middle frame shows what one frame tells.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..config.build import build
from ..config.layers import called_from
from ..console import say
from ..engine.run_folder import RunFolder, default_out
from ..files import check_out, folder_locks, mark
from ..pipelines.convert import convert
from ..pipelines.distill.api import distill
from ..pipelines.distill.settings import DistillConfig
from ..pipelines.evaluate.api import evaluate
from ..pipelines.finetune.api import finetune
from ..pipelines.finetune.settings import FinetuneConfig
from .clips import ClipSet, choose_footage, make_clips
from .footage import CLASSES
from .result import DemoResult, Row

BACKBONE = "tf_efficientnet_lite0"

VIDEO_MODEL = f"s3d-{BACKBONE}"

PRESET = f"{VIDEO_MODEL}_demo"

IMAGE_PRESET = f"c2d-{BACKBONE}_demo"


def run_clips(
    *,
    videos: str | Path | None = None,
    quick: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> ClipSet:
    """Make the demo's clips, and train nothing; the arguments and errors are those of `run_demo`.

    Returns:
        Where they are: ``clips/`` below ``out`` has train/ and val/ with a folder per class,
        ``unlabelled/`` has plain clips.
    """
    return _clips_in(out, videos=videos, quick=quick, seed=seed, overwrite=overwrite)[0]


def _clips_in(
    out: str | Path | None,
    *,
    videos: str | Path | None,
    quick: bool,
    seed: int,
    overwrite: bool,
) -> tuple[ClipSet, RunFolder]:
    """The clips, and the folder that they and all else are written into."""
    footage = "packaged" if videos is None else str(videos)
    folder = Path(out) if out is not None else default_out("demo", footage)
    check_out(folder, overwrite=overwrite)
    # An error in the footage comes before the folder is made.
    files = choose_footage(None if videos is None else Path(videos))
    run = RunFolder.open(folder, overwrite=overwrite)
    for name in ("clips", "unlabelled"):
        run.claim(name)
    train, test, unlabelled = (160, 60, 32) if quick else (2400, 480, 800)
    clips = make_clips(
        folder,
        files,
        train=train,
        test=test,
        unlabelled=unlabelled,
        seed=seed,
    )
    return clips, run


@called_from("the demo")
@folder_locks()
def run_demo(
    *,
    videos: str | Path | None = None,
    quick: bool = False,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    processes: int = 1,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> DemoResult:
    """Does this model see motion? An image model becomes a video model, on real footage.

    Args:
        videos: your own footage (at least two files) instead of the packaged videos.
        quick: a run of about a minute; its scores mean little.
        seed: of clips and trainings.
        device, precision: as for `finetune`.
        processes: processes on this machine; the recipe's batches of 8 are shared out among them.
        out: folder for clips, models, runs and the report; default runs/demo-<footage>-<n>.
        overwrite: replace an earlier demo's folder.

    Raises:
        VidinitError: missing packages, unusable footage, an ``out`` that is not empty.
    """
    from .report import write_demo_report

    began = time.perf_counter()
    clips, run = _clips_in(out, videos=videos, quick=quick, seed=seed, overwrite=overwrite)
    folder = run.root
    converted = convert(BACKBONE, "s3d", out=run.claim("converted"), frames=8, size=64, seed=seed)
    convert(BACKBONE, "c2d", out=run.claim("image"), frames=1, size=64, seed=seed)
    say(
        f"converted {BACKBONE} to {VIDEO_MODEL}: a still clip's logits differ by "
        f"{converted.max_difference:.1e} at most"
    )
    rows, videos_scored = [], 0
    how: dict[str, Any] = {"device": device, "precision": precision, "processes": processes}

    def share(cls: type[RunConfig], preset: str) -> int:
        """The recipe's batch, shared out among the processes."""
        whole = build(cls, preset=preset, flags={"model": VIDEO_MODEL}).data.clips
        return max(1, whole // processes)

    def train_and_score(
        name: str, place: Path, model: str | Path, preset: str, started: float
    ) -> None:
        nonlocal videos_scored
        finetune(
            model,
            data=clips.labelled,
            out=place,
            preset=preset,
            seed=seed,
            batch_size=share(FinetuneConfig, preset),
            **how,
        )
        trained = time.perf_counter() - started
        one_frame = preset == IMAGE_PRESET
        mark(place, "eval")
        result = evaluate(
            place, data=clips.labelled, out=place / "eval", clips=1 if one_frame else 2, **how
        )
        low, high = result["top1_interval"]
        rows.append(Row(name, result["top1"], (low, high), trained, str(place)))
        videos_scored = result["videos"]
        say(f"{name}: top-1 {result['top1']:.3f} after {trained:.0f} s of training")

    now = time.perf_counter
    train_and_score(
        "image model, middle frame",
        run.claim("image-model"),
        run.claim("image"),
        IMAGE_PRESET,
        now(),
    )
    train_and_score(
        "video model from scratch", run.claim("from-scratch"), VIDEO_MODEL, PRESET, now()
    )
    train_and_score(
        "video model converted", run.claim("from-converted"), run.claim("converted"), PRESET, now()
    )
    started = now()
    distill(
        run.claim("converted"),
        videos=clips.unlabelled,
        teacher="imagenet-lite",
        out=run.claim("distilled"),
        preset=PRESET,
        seed=seed,
        batch_size=share(DistillConfig, PRESET),
        **how,
    )
    train_and_score(
        "video model distilled",
        run.claim("from-distilled"),
        run.claim("distilled"),
        PRESET,
        started,
    )
    result = DemoResult(
        rows=rows,
        chance=1 / len(CLASSES),
        videos=videos_scored,
        out=folder,
        seconds=time.perf_counter() - began,
        clips=clips,
        conversion=converted.as_dict(),
    )
    run.write_json("result.json", result.as_dict())
    write_demo_report(run, result)
    return result
