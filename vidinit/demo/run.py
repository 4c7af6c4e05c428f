"""`vidinit demo`: the main job from end to end, through the same functions a user calls.

Clips whose label is their motion are made from real footage. An image model becomes a video model;
it is distilled on unlabelled clips; then the same fine-tuning starts from random weights, from the
converted model and from the distilled one. A linear head on the image model's features of the
middle frame shows what one frame tells.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from ..config import RunConfig
from ..config.build import build
from ..config.layers import called_from
from ..console import say
from ..engine.run_folder import RunFolder, default_out
from ..errors import Interrupted, UsageError
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


SIZES = {False: (2400, 480, 800), True: (640, 100, 64)}
"""By ``quick``: clips for training, for testing, and without labels."""

CLIPS_ALONE = {False: SIZES[False], True: (160, 60, 32)}
"""The same where nothing is trained on them: a few are enough to try commands on."""

ROWS, CONVERSION = "rows.json", "conversion.json"
"""Files of the demo's folder that an interrupted demo goes on from."""


def run_clips(
    *,
    videos: str | Path | None = None,
    quick: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> ClipSet:
    """Make the demo's clips, and train nothing; the arguments and errors are those of `run_demo`.

    Returns:
        Where they are: ``clips/`` below ``out`` has train/ and val/ with a folder per class,
        ``unlabelled/`` has plain clips.
    """
    settings = {"videos": None if videos is None else str(videos), "quick": quick, "seed": seed}
    run = _opened(out, {**settings, "clips_only": True}, resume=resume, overwrite=overwrite)
    with _going_on(run, settings, "--clips-only"):
        return _clips_in(run, settings, CLIPS_ALONE[quick])


def _opened(
    out: str | Path | None, settings: dict[str, Any], *, resume: bool, overwrite: bool
) -> RunFolder:
    """The folder of a demo, new or begun before with the same settings."""
    if resume and out is None:
        raise UsageError("--resume goes on in a demo's folder", "name it by --out")
    footage = settings["videos"] or "packaged"
    folder = Path(out) if out is not None else default_out("demo", footage)
    check_out(folder, overwrite=overwrite, resume=resume)
    # An error in the footage comes before the folder is made.
    choose_footage(None if settings["videos"] is None else Path(settings["videos"]))
    record = folder / "config.yaml"
    if resume and record.is_file():
        before = yaml.safe_load(record.read_text(encoding="utf-8")) or {}
        if changed := [key for key in settings if before.get(key) != settings[key]]:
            key = changed[0]
            raise UsageError(
                f"{folder} was begun with {key} {before.get(key)}, not {settings[key]}",
                "go on with the same options, or name another --out",
            )
    return RunFolder.open(folder, overwrite=overwrite, resume=resume, config=settings)


def _clips_in(run: RunFolder, settings: dict[str, Any], sizes: tuple[int, int, int]) -> ClipSet:
    """The clips below the folder that all else is written into, too."""
    videos = settings["videos"]
    for name in ("clips", "unlabelled"):
        run.claim(name)
    train, test, unlabelled = sizes
    return make_clips(
        run.root,
        choose_footage(None if videos is None else Path(videos)),
        train=train,
        test=test,
        unlabelled=unlabelled,
        seed=settings["seed"],
    )


@contextmanager
def _going_on(run: RunFolder, settings: dict[str, Any], *more: str) -> Iterator[None]:
    """Inside, Ctrl-C and signals end in the command that goes on with the demo.

    Raises:
        Interrupted: by one of them.
    """
    words = ["vidinit", "demo", "--resume", "--out", str(run.root), *more]
    words += ["--quick"] * settings["quick"]
    words += [] if settings["videos"] is None else ["--videos", settings["videos"]]
    words += [] if settings["seed"] == 0 else ["--seed", str(settings["seed"])]
    hint = f"go on with: {shlex.join(words)}"
    try:
        yield
    except Interrupted as error:
        number = error.exit_code - 128
        raise Interrupted(error.message, hint, signal_number=number) from error
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {run.root} keeps what is done", hint) from None


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
    resume: bool = False,
    overwrite: bool = False,
) -> DemoResult:
    """Does this model see motion? An image model becomes a video model, on real footage.

    Args:
        videos: your own footage (at least two files) instead of the packaged videos.
        quick: a run of about a minute and a half, on a quarter of the clips, without the model from
            scratch and without distillation.
        seed: of clips and trainings.
        device, precision: as for `finetune`.
        processes: processes on this machine; the recipe's batches of 8 are shared out among them.
        out: folder for clips, models, runs and the report; default runs/demo-<footage>-<n>.
        resume: go on with a demo in ``out`` that was interrupted: clips that are there and models
            that are scored are kept, a training goes on where it was saved.
        overwrite: replace an earlier demo's folder.

    Raises:
        VidinitError: missing packages, unusable footage, an ``out`` that is not empty.
        Interrupted: by Ctrl-C or a signal, with the command that goes on.
    """
    settings = {"videos": None if videos is None else str(videos), "quick": quick, "seed": seed}
    how = {"device": device, "precision": precision, "processes": processes}
    run = _opened(out, {**settings, "clips_only": False}, resume=resume, overwrite=overwrite)
    with _going_on(run, settings):
        return Demo(run, settings, how).result()


class Demo:
    """The demo in its folder: clips, conversions, and models trained and scored one by one.

    Args:
        run: its folder, in which some of it may be done.
        settings: ``videos``, ``quick`` and ``seed``.
        how: keywords of the functions that compute.
    """

    def __init__(self, run: RunFolder, settings: dict[str, Any], how: dict[str, Any]) -> None:
        self.run, self.settings, self.how = run, settings, how
        self.began = time.perf_counter()
        self.rows = [Row.of(one) for one in _read(run.root / ROWS, [])]
        self.clips = _clips_in(run, settings, SIZES[settings["quick"]])

    def result(self) -> DemoResult:
        """Whatever is not done yet, and then the table and the report."""
        from .report import write_demo_report

        conversion = self.converted()
        self.arm("image model, middle frame", "image-model", "image", IMAGE_PRESET)
        if not self.settings["quick"]:
            self.arm("video model from scratch", "from-scratch", VIDEO_MODEL, PRESET)
        self.arm("video model converted", "from-converted", "converted", PRESET)
        if not self.settings["quick"]:
            self.arm("video model distilled", "from-distilled", "distilled", PRESET)
        result = DemoResult(
            rows=self.rows,
            chance=1 / len(CLASSES),
            videos=SIZES[self.settings["quick"]][1],
            out=self.run.root,
            seconds=time.perf_counter() - self.began,
            clips=self.clips,
            conversion=conversion,
            quick=self.settings["quick"],
        )
        self.run.write_json("result.json", result.as_dict())
        write_demo_report(self.run, result)
        return result

    def converted(self) -> dict[str, Any]:
        """The image model as a video model and as one of single frames; what `convert` told."""
        if (told := _read(self.run.root / CONVERSION, None)) is not None:
            return dict(told)
        options: dict[str, Any] = {"size": 64, "seed": self.settings["seed"], "overwrite": True}
        report = convert(BACKBONE, "s3d", out=self.run.claim("converted"), frames=8, **options)
        convert(BACKBONE, "c2d", out=self.run.claim("image"), frames=1, **options)
        say(
            f"converted {BACKBONE} to {VIDEO_MODEL}: a still clip's logits differ by "
            f"{report.max_difference:.1e} at most"
        )
        told = report.as_dict()
        self.run.write_json(CONVERSION, told)
        return told

    def arm(self, name: str, folder: str, start: str, preset: str) -> None:
        """Train one model from its start and score it, if that is not done.

        Args:
            name: of its row.
            folder: of its run.
            start: folder of the weights, or a zoo name.
            preset: its recipe.
        """
        if any(row.model == name for row in self.rows):
            return
        place, began = self.run.claim(folder), time.perf_counter()
        if start == "distilled":
            self.distilled(self.run.claim(start))
        finetune(
            start if start == VIDEO_MODEL else self.run.root / start,
            data=self.clips.labelled,
            out=place,
            preset=preset,
            seed=self.settings["seed"],
            batch_size=self.share(FinetuneConfig, preset),
            resume=True,
            **self.how,
        )
        trained = time.perf_counter() - began
        mark(place, "eval")
        result = evaluate(
            place,
            data=self.clips.labelled,
            out=place / "eval",
            clips=1 if preset == IMAGE_PRESET else 2,
            overwrite=True,
            **self.how,
        )
        low, high = result["top1_interval"]
        self.rows.append(Row(name, result["top1"], (low, high), trained, str(place)))
        self.run.write_json(ROWS, [asdict(row) for row in self.rows])
        say(f"{name}: top-1 {result['top1']:.3f} after {trained:.0f} s of training")

    def distilled(self, place: Path) -> None:
        """The converted model, taught by the image model on clips without labels."""
        distill(
            self.run.root / "converted",
            videos=self.clips.unlabelled,
            teacher="imagenet-lite",
            out=place,
            preset=PRESET,
            seed=self.settings["seed"],
            batch_size=self.share(DistillConfig, PRESET),
            resume=True,
            **self.how,
        )

    def share(self, cls: type[RunConfig], preset: str) -> int:
        """The recipe's batch, shared out among the processes."""
        whole = build(cls, preset=preset, flags={"model": VIDEO_MODEL}).data.clips
        return max(1, whole // self.how["processes"])


def _read(path: Path, default: Any) -> Any:
    """A small JSON file; ``default`` where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default
