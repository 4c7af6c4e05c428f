"""Lines about a training run: its batch before it, a diagnosis in it, the summary after it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ...config import TrainRunConfig
from ...console import duration
from ...engine.optimizer import peak_lr
from .run_records import recorded_config

SHOWN = ("frame_ap", "map", "top1", "choice")
"""Metrics that stand for a model in one line, the first that there is."""

# Of a dry run's result, and how they are called.
_COUNTS = {"params": "parameters", "trained": "trained", "head": "in heads"}


def describe_batch(
    batch_size: int,
    processes: int,
    accumulate: int,
    lr: float,
    lr_batch: int | None,
    *,
    key: str = "data.batch_size",
) -> str:
    """One line: the clips of a step and the peak learning rate, and where both come from.

    Args:
        batch_size: clips per process and batch.
        processes: of the run, on all machines.
        accumulate: batches of a step, ``train.accumulate``.
        lr: ``train.lr``.
        lr_batch: ``train.lr_batch``.
        key: of the setting that is ``batch_size``.
    """
    clips = batch_size * processes * accumulate
    parts = [f"{key}={batch_size}"]
    if processes > 1:
        parts.append(f"{processes} processes")
    if accumulate > 1:
        parts.append(f"train.accumulate={accumulate}")
    source = "train.lr"
    if lr_batch is not None:
        source = f"train.lr={lr:g} x {clips} / train.lr_batch={lr_batch}"
    rate = f"{peak_lr(lr, lr_batch, clips):g} ({source})"
    return f"{clips} clips a step ({' x '.join(parts)}), peak learning rate {rate}"


def input_advice(
    share: float, *, workers: int, processes: int, cores: int, decode_side: int | None
) -> str:
    """Advice for a training that waits for its data.

    Args:
        share: of the time that was spent waiting, 0 to 1.
        workers: decoding processes per training process.
        processes: training processes on this machine.
        cores: that this machine has for them.
        decode_side: ``data.decode_side``.
    """
    now = f"{workers} x {processes}" if processes > 1 else f"{workers}"
    ways = ["`vidinit data prepare` makes copies of the videos that decode faster"]
    if workers * processes < cores:
        ways.insert(0, f"raise data.workers ({now} now, {cores} cores)")
    else:
        ways.insert(0, f"data.workers is {now} already, for {cores} cores")
    if decode_side is None:
        ways.append("data.decode_side=SIDE decodes to a smaller frame")
    return f"input-bound: {share:.0%} of the time goes by waiting for data; " + "; ".join(ways)


def summary(result: Mapping[str, Any]) -> list[str]:
    """The end of a training run, as lines: what was done, how fast, what there is, what is next.

    Args:
        result: of the run. ``out``, ``steps``, ``best``, ``videos`` and ``skipped`` are always
            there; ``epochs``, ``seconds``, ``clips_per_second`` and ``data_wait`` are not when
            nothing was left to train.
    """
    out = str(result["out"])
    config = recorded_config(out)
    assert isinstance(config, TrainRunConfig)
    lines = [_done(result)]
    if result.get("scores"):
        lines += _scores(result["scores"])
    elif result["best"] is not None:
        lines.append(f"best validation score {result['best']:.3f}")
    if result.get("test"):
        test = result["test"]
        lines.append(f"test, once, with the kept model: {_score(test)} on {test['videos']} videos")
    if result["skipped"]:
        lines.append(f"{result['skipped']} clips replaced, see {out}/data_health.json")
    lines.append(f"model: {out}/model   report: {out}/report.html")
    if "tensorboard" in config.train.trackers:
        lines.append("curves: " + shlex.join(["tensorboard", "--logdir", f"{out}/events"]))
    lines.append(f"next: {config.next_command(out)}")
    return lines


def _scores(scores: Mapping[str, Any]) -> list[str]:
    """The best and the last evaluation, one line if they are the same."""
    best, last, clips = scores["best"], scores["last"], scores.get("clips")
    on = f" on {clips} validation videos" if clips else ""
    if best["epoch"] == last["epoch"]:
        return [f"validation: {_score(best)}{on}, epoch {best['epoch']}"]
    return [
        f"validation: best epoch {best['epoch']}: {_score(best)}, last epoch {last['epoch']}: "
        f"{_score(last)}{on}"
    ]


def _score(one: Mapping[str, Any]) -> str:
    """A metric with its interval, as ``top1 0.821 (95 %: 0.722 to 0.890)``."""
    metric = next(name for name in SHOWN if name in one)
    interval = one.get("interval")
    around = f" (95 %: {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"{metric} {one[metric]:.3f}{around}"


def _done(result: Mapping[str, Any]) -> str:
    line = f"{result['steps']} steps on {result['videos']} videos"
    if "epochs" in result:
        line += f", {result['epochs']} epochs"
    if "seconds" in result:
        line += f" in {duration(result['seconds'])}: {result['clips_per_second']:.1f} clips/s"
        line += f", {result['data_wait']:.0%} of the time waiting for data"
    return line


def dry_run_summary(result: Mapping[str, Any]) -> list[str]:
    """The result of a dry run, as lines.

    Args:
        result: see `pipelines.shared.dry_run.rehearse`.
    """
    counts = ", ".join(f"{result[k]:,} {text}" for k, text in _COUNTS.items())
    shapes = ", ".join(
        f"{name} ({', '.join(map(str, shape))})" for name, shape in result["shapes"].items()
    )
    lines = [f"{result['model']}: {counts}", f"{result['batch']} clips a batch: {shapes}"]
    if result["memory_mb"] is None:
        lines.append("memory: not estimated, as the weights are sharded")
    else:
        parts = dict(result["memory_mb"])
        whole = parts.pop("total")
        shown = ", ".join(f"{name} {size:.0f}" for name, size in parts.items())
        lines.append(f"memory on the device, about: {whole:.0f} MB ({shown})")
    if result["steps_per_epoch"] is None:
        lines.append("steps: as many as the data makes, which was not given")
    else:
        steps, epochs = result["steps_per_epoch"], result["epochs"]
        lines.append(
            f"{result['clips']} clips: {steps} steps an epoch, {steps * epochs} in {epochs} epochs"
        )
    losses = ", ".join(f"{name} {value:.4g}" for name, value in result["losses"].items())
    rate = f"{result['seconds']:.2f} s, {result['clips_per_second']:.1f} clips/s"
    lines.append(f"first step: {losses}; {rate}")
    for name, plan in result.get("sources", {}).items():
        lines.append(
            f"{name}: {plan['steps_per_epoch']} steps an epoch of {plan['seconds_per_step']:.2f} s"
            f", {plan['passes_per_epoch']:.2f} passes over its data"
        )
    for name, cost in result.get("objectives", {}).items():
        size = cost["activations_mb"]
        memory = "" if size is None else f", {size:.0f} MB of activations"
        lines.append(f"{name}: {cost['seconds']:.2f} s a step{memory}")
    if "epoch_seconds" in result:
        lines.append(f"an epoch, but for waiting for data: {result['epoch_seconds']:.0f} s")
    lines.append("dry run: nothing was written")
    return lines
