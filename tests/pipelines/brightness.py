"""A whole pipeline in one file: a video model learns how bright its clips are, without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from vidinit.config import Section
from vidinit.config.base import TrainRunConfig
from vidinit.pipelines.shared.arguments import Overrides, Places, as_places, training_flags


def brightness(
    model: str | Path | None = None,
    *,
    videos: Places | None = None,
    exponent: float | None = None,
    out: str | Path | None = None,
    overrides: Overrides = (),
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | str | None = None,
    seed: int | None = None,
    device: str | None = None,
    processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Teach a video model how bright its clips are.

    Args:
        model: as for `finetune`.
        videos: folder searched through, or a list; may be repeated.
        exponent: of the brightness, above 0; default 1.
        out, overrides, epochs, lr, batch_size, seed, device, processes, resume, overwrite,
            dry_run: as for `finetune`.
    """
    from vidinit.config.build import build
    from vidinit.pipelines.run import run_training

    flags = {
        **training_flags(model, None, out, device, None, batch_size, epochs, lr, seed),
        "data.train": as_places(videos),
        "brightness.exponent": exponent,
    }
    built = build(BrightnessConfig, overrides=overrides, flags=flags)
    return run_training(
        "brightness", built, processes, resume=resume, overwrite=overwrite, dry_run=dry_run
    )


class BrightnessSection(Section):
    """What is learned."""

    exponent: float = Field(1.0, gt=0)
    """Of the brightness."""


class BrightnessConfig(TrainRunConfig):
    """Configuration of `vidinit brightness`."""

    command: ClassVar[str] = "brightness"

    brightness: BrightnessSection = Field(default_factory=BrightnessSection)


def execute(
    config: BrightnessConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """See `brightness`."""
    from vidinit.data.sources import unlabeled_rows
    from vidinit.engine.collectives import from_main
    from vidinit.engine.job import Job
    from vidinit.engine.task import Task
    from vidinit.pipelines.shared.clips import (
        check_rows,
        clip_batches,
        data_name,
        quarantine_of,
        training_clips,
    )
    from vidinit.pipelines.shared.on_device import OnDevice
    from vidinit.pipelines.shared.training import (
        Training,
        finished_result,
        open_for_training,
        saver,
    )

    class BrightnessTask(Task):
        """The mean of a clip's normalized pixels, from its descriptor."""

        def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
            clip = batch["clip"]
            wanted = clip.mean(dim=(1, 2, 3, 4)).abs() ** config.brightness.exponent
            return {"loss": nn.functional.mse_loss(self.model(clip)[:, 0], wanted)}

    if (done := finished_result(config, resume)) is not None:
        return done
    data = config.data
    found = unlabeled_rows(data.train, root=data.root)
    training = Training(config, resume=resume, overwrite=overwrite, dry_run=dry_run)
    videos = from_main(
        training.accelerator,
        lambda: check_rows(found, data, data_name(data.train), training.resumed),
    )
    task = BrightnessTask(open_for_training(config, ["brightness"]))
    spec = task.model.spec
    clips = training_clips(videos.rows, spec, data, seed=config.train.seed, flip=True)
    quarantine = quarantine_of(videos.rows, videos.known)
    on_device = OnDevice(spec.mean, spec.std)
    training.choose_batch_size(task, clips, on_device, quarantine)
    run = training.open_run([videos.health], [quarantine])
    job = Job(
        title="brightness",
        task=task,
        on_device=on_device,
        save_model=saver(task.model, run, {"step": "brightness"}),
        **clip_batches(clips, config, training.accelerator, quarantine),
    )
    if dry_run:
        return training.rehearse(job, clips=len(clips))
    return training.finish(job, training.fit(job), videos=len(videos.rows))
