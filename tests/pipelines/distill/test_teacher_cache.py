"""What teachers said of frames, kept on disk: it changes nothing, and nothing of it is lost."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines.distill.distill_support import losses, run, tiny_teacher, weights
from support import MODEL, moving_bar, write_video

import vidinit
from vidinit.errors import DataError, UsageError, VidinitError
from vidinit.pipelines.distill.teacher_cache import FrameCache
from vidinit.pipelines.distill.teachers import Teacher
from vidinit.pipelines.shared import array_store
from vidinit.pipelines.shared.array_store import ArrayStore

FRAME = ["distill.view=frame"]


def cached(motion_set: Path, out: Path, place: Path, *teachers: str, **options: Any) -> Any:
    options["overrides"] = [*FRAME, *options.get("overrides", ())]
    return run(motion_set, out, *teachers, cache=place, **options)


def files_of(place: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny.pth")


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """How many images teachers are asked about, a number for each time."""
    counts: list[int] = []
    really = Teacher.outputs

    def outputs(self: Teacher, images: torch.Tensor) -> torch.Tensor:
        counts.append(len(images))
        return really(self, images)

    monkeypatch.setattr(Teacher, "outputs", outputs)
    return counts


@pytest.mark.slow
def test_a_warm_cache_asks_no_teacher_and_changes_nothing(
    motion_set, tmp_path, asked, capsys, tiny
):
    place = tmp_path / "cache"
    options = {"epochs": 3, "picks": "random:2"}
    cached(motion_set, tmp_path / "cold", place, tiny, **options)
    told = capsys.readouterr().err
    assert "cache of mobilenetv2_050: up to" in told and "frames are there" not in told
    # Six videos of ten frames, of which a batch shows four, two frames each, in three epochs; the
    # report looks at two frames of each video before.
    assert 20 <= sum(asked) < 36
    asked.clear()
    before = files_of(place)
    cached(motion_set, tmp_path / "warm", place, tiny, **options)
    assert asked == [] and "frames are there" in capsys.readouterr().err
    assert files_of(place) == before
    assert losses(tmp_path / "cold") == losses(tmp_path / "warm")
    assert weights(tmp_path / "cold") == weights(tmp_path / "warm")
    # Another student, crop and seed: the same frames are known.
    cached(
        motion_set, tmp_path / "more", place, tiny, overrides=["data.size=48"], picks="all", seed=1
    )
    assert 0 < sum(asked) < 16
    run(motion_set, tmp_path / "none", tiny, overrides=FRAME, **options)
    plain, rounded = (losses(tmp_path / name)[0]["loss"] for name in ("none", "warm"))
    assert plain != rounded and plain == pytest.approx(rounded, rel=1e-3)


@pytest.mark.slow
def test_workers_and_a_cache_agree(motion_set, tmp_path, tiny):
    one = cached(motion_set, tmp_path / "a", tmp_path / "cache-a", tiny, epochs=2)
    two = ["data.workers=2"]
    cached(motion_set, tmp_path / "b", tmp_path / "cache-b", tiny, epochs=2, overrides=two)
    assert one["steps"] == 2 and losses(tmp_path / "a") == losses(tmp_path / "b")
    assert files_of(tmp_path / "cache-a") == files_of(tmp_path / "cache-b")


@pytest.mark.slow
def test_a_cache_of_another_teacher_or_other_videos_is_refused(motion_set, tmp_path, tiny):
    place = tmp_path / "cache"
    teachers = [tiny_teacher(tmp_path / f"{seed}.pth", seed) for seed in (0, 1)]
    cached(motion_set, tmp_path / "run", place, teachers[0])
    before = files_of(place)

    def refused(told: str, *words: str, videos: Path = motion_set, **options: Any) -> None:
        with pytest.raises(UsageError, match=told):
            cached(videos, tmp_path / "again", place, *words, overwrite=True, **options)
        assert files_of(place) == before

    refused("weights is .* there and .* here", teachers[1])
    refused(r"crop is 32/\S+ there and 64/", teachers[0].replace("32", "64"))
    refused("precision is float32 there and bfloat16 here", teachers[0],
            overrides=["distill.precision=bf16"])  # fmt: skip
    other = tmp_path / "other"
    shutil.copytree(motion_set, other)
    refused("videos is 6 rows, .* there and 6 rows,", teachers[0], videos=other)
    cached(motion_set, tmp_path / "again", place, teachers[0], overwrite=True)


@pytest.mark.slow
def test_a_full_disk_while_caching_is_one_error_and_loses_nothing(
    motion_set, tmp_path, monkeypatch, tiny
):
    place = tmp_path / "cache"
    cached(motion_set, tmp_path / "before", place, tiny, picks="center")
    write = array_store._write_at

    def full(file: Any, where: int, data: bytes) -> None:
        if len(data) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, where, data)

    monkeypatch.setattr(array_store, "_write_at", full)
    with pytest.raises(VidinitError, match=r"takes no more of the cache .*make room"):
        cached(motion_set, tmp_path / "run", place, tiny, picks="all")
    monkeypatch.undo()
    result = cached(motion_set, tmp_path / "run", place, tiny, picks="all", overwrite=True)
    assert result["steps"] == 1
    cached(motion_set, tmp_path / "reference", tmp_path / "fresh", tiny, picks="all")
    # Which images were asked about together shows in the last bits.
    pair = [losses(tmp_path / name)[0]["loss"] for name in ("run", "reference")]
    assert pair[0] == pytest.approx(pair[1], rel=1e-5)


def test_too_small_a_disk_is_told_before_the_first_step(motion_set, tmp_path, monkeypatch, tiny):
    free = shutil.disk_usage(tmp_path)._replace(free=500)
    monkeypatch.setattr(array_store.shutil, "disk_usage", lambda place: free)
    with pytest.raises(VidinitError, match=r"may grow by 1\.1 kB, and 0\.5 kB are free"):
        cached(motion_set, tmp_path / "run", tmp_path / "cache", tiny)


def test_a_video_that_has_grown_does_not_write_into_its_neighbor(tmp_path):
    form = {"count": 12, "shape": (2,), "dtype": "float16", "fingerprint": {}}
    with ArrayStore(tmp_path / "store", **form) as store:
        cache = FrameCache(store, np.array([0, 5, 12]))
        assert cache.keys([[0], [1]], np.array([[4], [6]])).tolist() == [[4], [11]]
        with pytest.raises(DataError, match="has changed since it was checked"):
            cache.has(0, np.array([5]))


def test_parts_of_one_video_are_told_apart(tmp_path, tiny):
    """Rows that are segments of a file: the frames of each are counted from its own start."""
    write_video(tmp_path / "long.mp4", moving_bar(3, 0, frames=24))
    lines = ["path,start,end", "long.mp4,0,1", "long.mp4,1,2"]  # twelve frames a second
    (tmp_path / "list.csv").write_text("\n".join(lines))
    small = ["data.frames=4", "data.stride=1", "data.size=32", "data.batch_size=2"]
    how = {
        "videos": tmp_path / "list.csv",
        "teacher": tiny,
        "epochs": 1,
        "picks": "all",
        "overrides": [*small, *FRAME, "data.workers=0", "data.start=center", "train.log_every=1"],
    }
    vidinit.distill(MODEL, out=tmp_path / "run", cache=tmp_path / "cache", **how)
    marks = np.fromfile(tmp_path / "cache" / "mobilenetv2_050" / "written.bin", np.uint8)
    assert marks.sum() == 8 and len(marks) == 48
    vidinit.distill(MODEL, out=tmp_path / "none", **how)
    pairs = zip(losses(tmp_path / "run"), losses(tmp_path / "none"), strict=True)
    assert all(a["loss"] == pytest.approx(b["loss"], rel=1e-3) for a, b in pairs)
