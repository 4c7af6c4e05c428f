"""A frozen trunk looks at a clip once; runs with and without what it kept have the same bits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from support import SMALL, logged, run_cli

import vidinit
from vidinit.checkpoint import save_model
from vidinit.config.probe_text import named_probes
from vidinit.data.loading.datasets import ClipDataset, EvalDataset
from vidinit.data.pixels.transforms import Augment
from vidinit.data.rows import Rows
from vidinit.data.views import Sampling
from vidinit.errors import UsageError, VidinitError
from vidinit.pipelines.finetune.feature_cache import Features, Kept, ViewClips
from vidinit.pipelines.finetune.probes import ProbeTask, TrunkOutputs
from vidinit.pipelines.shared.array_store import ArrayStore

TIMES = {"clips_per_second", "data_wait"}
ONLY = [*SMALL, "train.log_every=1", "train.optimizer=adamw", "train.lr=0.01"]
ONLY += ["eval.time_test=false"]
PROBES = ["linear", "gru:blocks=1,readout=16,readout_heads=2", "attentive:lr=0.01|0.001"]


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = vidinit.create_model("c2d-test_vit", num_classes=2)
    return save_model(model, tmp_path_factory.mktemp("models") / "m")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many clips a trunk is given, how many training clips are cut, how many videos scored."""
    counts = dict.fromkeys(("trunk", "train", "eval"), 0)
    outputs, cut, views = ProbeTask.trunk_outputs, ClipDataset._clips, EvalDataset._views

    def counted_outputs(self: Any, clip: Any) -> Any:
        counts["trunk"] += len(clip)
        return outputs(self, clip)

    def counted_cut(self: Any, *given: Any) -> Any:
        counts["train"] += 1
        return cut(self, *given)

    def counted_views(self: Any, *given: Any) -> Any:
        counts["eval"] += 1
        return views(self, *given)

    monkeypatch.setattr(ProbeTask, "trunk_outputs", counted_outputs)
    monkeypatch.setattr(ClipDataset, "_clips", counted_cut)
    monkeypatch.setattr(EvalDataset, "_views", counted_views)
    return counts


@pytest.fixture(autouse=True)
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are tested elsewhere; they take longer than these runs."""
    for name in ("model_sections", "write_report"):
        monkeypatch.setattr(f"vidinit.pipelines.shared.training.{name}", lambda *_, **__: [])


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [row for row in logged(run) if not TIMES & set(row)]


def train(trunk: Path, out: Path, *more: str, **options: Any) -> dict[str, Any]:
    options = {"probe": PROBES, "epochs": 4, **options}
    return vidinit.finetune(trunk, out=out, overrides=[*ONLY, *more], **options)


FIXED = ["data.batch_size=5", "train.feature_views=1"]
STILL = ["data.batch_size=5", "data.start=center", "data.min_area=1", "data.flip=false"]


def test_the_same_bits(trunk: Path, motion_set: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    """Random crops of one epoch, seen twice; after the first time nothing is decoded."""
    folder, words = tmp_path / "features", {"data": motion_set, "epochs": 2, "probe": PROBES[:2]}
    cache = f"train.feature_cache={folder}"
    plain = train(trunk, tmp_path / "plain", *FIXED, **words)
    # 10 of 12 clips are trained on in each epoch; 6 and 2 are scored behind each.
    assert (seen["train"], seen["eval"]) == (20, 16)
    seen.update(dict.fromkeys(seen, 0))
    cached = train(trunk, tmp_path / "cached", *FIXED, cache, **words)
    assert (seen["train"], seen["eval"]) == (10, 8)
    # One clip for the shapes of what is kept; batches of 5 of 6 videos, and of the 2 held out.
    assert seen["trunk"] == 1 + 10 + 2 * 5 + 2
    assert rows_of(tmp_path / "cached") == rows_of(tmp_path / "plain")
    for key in ("best", "probe", "probes", "choice"):
        assert cached[key] == plain[key], key
    stores = {str(p.parent.relative_to(folder)) for p in folder.rglob("store.json")}
    parts = ("train", "val", "held-out")
    assert stores == {f"{part}/{output}" for part in parts for output in ("descriptor", "tokens")}
    form = json.loads((folder / "train/tokens/store.json").read_text())
    assert (form["keys"], form["shape"], form["dtype"]) == (10, [4, 4, 64], "<f4")
    other = vidinit.load(trunk)
    next(other.trunk.parameters()).data.add_(0.1)  # type: ignore[operator, union-attr]
    with pytest.raises(UsageError, match="was written for something else: weights is"):
        train(save_model(other, tmp_path / "other"), tmp_path / "c", *FIXED, cache, **words)


def test_a_trunk_with_the_same_weights(motion_set: Path, tmp_path: Path) -> None:
    """Adapters of another scale have the same tensors, and give other features."""
    cache, words = f"train.feature_cache={tmp_path / 'f'}", {"data": motion_set, "epochs": 1}
    for scale in (0.5, 1.0):
        torch.manual_seed(0)
        model = vidinit.create_model("aim-test_vit", num_classes=2, scale=scale)
        save_model(model, tmp_path / f"{scale}")
    train(tmp_path / "0.5", tmp_path / "a", *FIXED, cache, **words, probe="linear")
    with pytest.raises(UsageError, match=r"option scale is 0\.5 there and 1\.0 here"):
        train(tmp_path / "1.0", tmp_path / "b", *FIXED, cache, **words, probe="linear")


@pytest.mark.slow
def test_several_views(trunk: Path, motion_set: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    """Epochs with crops of their own, which come again; in processes that read."""
    views = ["data.batch_size=4", "data.workers=2", "train.feature_views=2", "data.repeats=2"]
    words: dict[str, Any] = {"data": motion_set, "epochs": 5}
    train(trunk, tmp_path / "plain", *views, **words)
    assert seen["trunk"] > 5 * 20
    seen.update(dict.fromkeys(seen, 0))
    train(trunk, tmp_path / "cached", *views, f"train.feature_cache={tmp_path / 'f'}", **words)
    assert seen["trunk"] <= 1 + 2 * 20 + 4 + 8 and seen["train"] == 0, "others read"
    rows = rows_of(tmp_path / "cached")
    assert rows == rows_of(tmp_path / "plain")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(set(losses)) == len(losses)


@pytest.mark.slow
def test_runs_share_what_is_kept(
    trunk: Path, motion_set: Path, tmp_path: Path, seen: dict[str, int]
) -> None:
    """Of clips that are the same in all epochs: other probes, rates, seeds; and half precision."""
    words: dict[str, Any] = {"data": motion_set, "epochs": 3}
    for precision in ("fp32", "fp16"):
        rounded = f"train.feature_precision={precision}"
        cache = f"train.feature_cache={tmp_path / precision}"
        train(trunk, tmp_path / f"a {precision}", *STILL, cache, rounded, **words)
        assert (seen["train"], seen["eval"]) == (10, 8)
        again = [*STILL, rounded, "train.lr=0.1", "train.seed=1"]
        seen.update(dict.fromkeys(seen, 0))
        one = {**words, "val": motion_set / "val", "data": motion_set / "train"}
        one["probe"] = "readout:time=sincos"
        train(trunk, tmp_path / f"b {precision}", *again, cache, **one)
        assert (seen["train"], seen["eval"]) == (2, 0), "two that were held out before"
        train(trunk, tmp_path / f"c {precision}", *again, **one)
        assert rows_of(tmp_path / f"b {precision}") == rows_of(tmp_path / f"c {precision}")
        seen.update(dict.fromkeys(seen, 0))
    form = json.loads((tmp_path / "fp16/train/tokens/store.json").read_text())
    assert form["dtype"] == "<f2"
    full, half = (
        [row["loss"] for row in rows_of(tmp_path / f"c {p}") if "loss" in row]
        for p in ("fp32", "fp16")
    )
    assert full != half and full == pytest.approx(half, rel=0.05)


@pytest.mark.slow
def test_two_processes(trunk: Path, motion_set: Path, tmp_path: Path) -> None:
    """Each keeps its part, and both read all of it."""
    cache = f"train.feature_cache={tmp_path / 'features'}"
    for name, more in (("plain", []), ("cached", [cache])):
        done = run_cli(
            *("finetune", trunk, "--data", motion_set, "--out", tmp_path / name, "--epochs", "3"),
            *(*ONLY, *STILL, "data.batch_size=3", *more, "--probe", "linear", "--probe", "gru"),
            *("--processes", "2"),
        )
        assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "plain") == rows_of(tmp_path / "cached")


def test_what_cannot_be_kept(
    trunk: Path, motion_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = f"train.feature_cache={tmp_path / 'features'}"
    for words, more, why in (
        (None, [], "is for what a frozen trunk gives probes: add --probe"),
        ("dist", [], "probe dist sees the clips themselves"),
        ("linear", ["data.mixup=0.2"], "data.mixup=0.2 makes a clip of two"),
        ("linear", ["data.flip=swap"], "gives a clip a label by how it was drawn"),
        ("linear", ["data.sampling=all", "data.batch_size=1"], "of different lengths"),
        ("linear", [f"train.tap_cache={tmp_path}"], "train.tap_cache keeps the same"),
    ):
        with pytest.raises(UsageError, match=why):
            train(trunk, tmp_path / "run", cache, *more, data=motion_set, probe=words)
    before = sorted(motion_set.rglob("*"))
    for place, holds in ((motion_set, "train/left"), (trunk, "model.safetensors")):
        with pytest.raises(UsageError, match=f"is no cache: it holds {holds}"):
            train(
                *(trunk, tmp_path / "run", f"train.feature_cache={place}"),
                data=motion_set,
                probe="linear",
            )
    assert sorted(motion_set.rglob("*")) == before
    disk = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk)
    with pytest.raises(VidinitError, match=r"features may grow by \S+ kB, and 1.0 kB are free"):
        train(trunk, tmp_path / "run", cache, data=motion_set, probe="linear")
    assert not (tmp_path / "features").exists() and not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------ in pieces


def test_a_batch_of_both_kinds(tmp_path: Path) -> None:
    """What is kept is read, what is not is made in a batch of the usual size, and all in order."""
    torch.manual_seed(0)
    model = vidinit.create_model("c2d-test_vit", num_classes=2)
    model.spec = replace(model.spec, frames=2, size=32)
    task = ProbeTask(model, named_probes(["attentive:time=none"]), 2).eval()
    clip = torch.randn(4, 3, 2, 32, 32)
    whole = task.trunk_outputs(clip)
    assert whole.tokens is not None
    stores = {
        name: ArrayStore(
            tmp_path / name, count=9, shape=value.shape[1:], dtype="float32", fingerprint={}
        )
        for name, value in (("descriptor", whole.descriptor), ("tokens", whole.tokens))
    }
    kept = Kept(stores, 1, np.arange(9))
    kept.write(np.array([5, 7]), TrunkOutputs(whole.descriptor[1:3], whole.tokens[1:3]))
    sizes: list[int] = []
    task.trunk_outputs = lambda clip, own=task.trunk_outputs: sizes.append(len(clip)) or own(clip)  # type: ignore[assignment, misc]
    plain = Accelerator(cpu=True)
    features = Features(task, lambda b, *_: b, plain, _clips(kept), {}, {})
    batch = {
        "key": torch.tensor([3, 5, 7, -1]),
        "decoded": torch.tensor([True, False, False, True]),
        "clip": clip[[0, 3]],
    }
    ready = features(batch, 0, 0)
    assert sizes == [4] and "clip" not in ready
    for name in stores:
        assert torch.allclose(getattr(ready["features"], name), getattr(whole, name), atol=1e-6)
    assert kept.has(np.arange(9)).nonzero()[0].tolist() == [3, 5, 7], "nothing of a substitute"
    features.close()


def _clips(kept: Kept) -> ViewClips:
    sampling = Sampling(2)
    return ViewClips(Rows(()), sampling=sampling, augment=Augment(32), views=1, kept=kept)
