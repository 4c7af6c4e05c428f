"""Flow on disk is the flow that would be estimated, or it is not used."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data.flow.scenes import translating
from data.ten_clips import clips, same, views
from support import write_video
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit.data.flow import precompute, reader
from vidinit.data.flow.precompute import flow_item, prepare_flow
from vidinit.data.flow.settings import Flow
from vidinit.data.flow.stored import FlowFile, file_of, stored_flow, usable_file, write_flow
from vidinit.data.loading.teacher_frames import TeacherFrames
from vidinit.data.readers import VideoReadError, open_row, probe
from vidinit.data.rows import Row, Rows
from vidinit.data.sources import unlabeled_rows
from vidinit.data.views import Picks
from vidinit.errors import VidinitError

pytest.importorskip("cv2")
FLOW = Flow()


@pytest.fixture
def estimates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many flows were estimated, by call."""
    calls: list[int] = []
    really = reader.estimate_flow

    def estimate_flow(flow: Flow, frames: np.ndarray, places: list[int]) -> object:
        calls.append(len(places))
        return really(flow, frames, places)

    monkeypatch.setattr(reader, "estimate_flow", estimate_flow)
    return calls


def write(rows: Rows, flow: Flow = FLOW) -> None:
    """Files for all of them, without the processes that `prepare_flow` takes."""
    for row in rows.rows:
        target = file_of(row.path, flow)
        item = {"video": row.path, "target": target, "partial": f"{row.path}.part"}
        assert flow_item({**item, "flow": vars(flow)}) is None


def test_a_file_gives_any_frames_back(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).integers(0, 256, (30, 15, 22, 2), np.uint8)
    assert write_flow(tmp_path / "flow.avi", iter(flow)) == 30
    stored = FlowFile(str(tmp_path / "flow.avi"))
    assert (stored.num_frames, stored.size) == (30, (15, 22))
    for wanted in ([29], list(range(30)), [7, 3, 3, 20, 21, 0]):
        assert np.array_equal(stored.get(wanted), flow[wanted])
    with pytest.raises(VideoReadError, match="no frame 30"):
        stored.get([30])


def test_other_files_are_none(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", translating(1, 1))
    with pytest.raises(VideoReadError, match="it holds no optical flow"):
        FlowFile(str(video))


def test_stored_flow_is_estimated_flow(own_videos: Rows, estimates: list[int]) -> None:
    options = {"flow": FLOW, "teachers": TeacherFrames(Picks("random"), crops=True)}
    keys = [(epoch, index) for epoch in (0, 1) for index in range(6)]
    before = [clips(own_videos, **options)[key] for key in keys]
    shown = [views(own_videos, flow=FLOW, clips=2, crops=3)[index] for index in range(6)]
    write(own_videos)
    estimates.clear()
    assert all(map(same, (clips(own_videos, **options)[key] for key in keys), before))
    found = [views(own_videos, flow=FLOW, clips=2, crops=3)[index] for index in range(6)]
    assert all(map(same, found, shown))
    assert estimates == []
    # Hidden folders are no videos.
    folder = os.path.dirname(own_videos.rows[0].path)
    assert len(unlabeled_rows(folder).rows) == 6


def test_segments_have_their_own_part(own_videos: Rows, estimates: list[int]) -> None:
    for start, end in ((0.2, 0.6), (0.25, 0.26)):  # the second one is a picture
        rows = own_videos.of([replace(own_videos.rows[5], start=start, end=end)])
        estimated = views(rows, flow=FLOW)[0]
        write(own_videos)
        calls = len(estimates)
        assert same(views(rows, flow=FLOW)[0], estimated)
        assert len(estimates) == calls
        Path(file_of(rows.rows[0].path, FLOW) or "").unlink()


def _older(file: Path, video: Path) -> None:
    os.utime(file, ns=(0, video.stat().st_mtime_ns - 1))


def _cut(file: Path, video: Path) -> None:
    file.write_bytes(file.read_bytes()[:6000])


def _zeroed(file: Path, video: Path) -> None:
    data = bytearray(file.read_bytes())
    for place in re.finditer(rb"00dc", data[: data.index(b"idx1")]):
        start = place.start() + 60  # within a frame
        data[start : start + 40] = bytes(40)
    file.write_bytes(data)


def _of_another_size(file: Path, video: Path) -> None:
    write_flow(file, iter(np.zeros((7, 32, 32, 2), np.uint8)))


def _of_another_length(file: Path, video: Path) -> None:
    write_flow(file, iter(np.zeros((5, 64, 64, 2), np.uint8)))


@pytest.mark.parametrize("change", [_older, _cut, _zeroed, _of_another_size, _of_another_length])
def test_a_file_that_does_not_fit_is_not_used(
    own_videos: Rows, estimates: list[int], change: Callable[[Path, Path], None]
) -> None:
    dataset = views(own_videos, flow=FLOW)
    expected = dataset[0]
    write(own_videos)
    place = file_of(own_videos.rows[0].path, FLOW)
    assert place is not None
    change(Path(place), Path(own_videos.rows[0].path))
    estimates.clear()
    assert same(dataset[0], expected)
    assert len(estimates) == 1


def test_files_are_of_one_bound_and_of_whole_frames(own_videos: Rows) -> None:
    write(own_videos)
    row = own_videos.rows[0]
    assert usable_file(row.path, FLOW) is not None
    assert usable_file(row.path, Flow(bound=10.0)) is None
    assert file_of(row.path, Flow("raft", weights="mine.pth")) is None
    assert [stored_flow(row, FLOW, side) is None for side in (None, 64, 32)] == [False, False, True]
    assert stored_flow(replace(row, probe=None), FLOW) is None
    small = views(own_videos, flow=FLOW, decode_side=32, size=16)[0]["views"]
    assert small.shape == (1, 4, 16, 16, 2)


# ------------------------------------------------------------------ prepare


def test_prepare_writes_what_is_missing(own_videos: Rows, tmp_path: Path) -> None:
    tiny = write_video(tmp_path / "videos" / "tiny.mp4", np.zeros((3, 10, 64, 3), np.uint8))
    paths = [Path(own_videos.rows[0].path), tiny]
    told: list[tuple[int, int]] = []

    def run() -> dict[str, object]:
        return prepare_flow(
            paths,
            FLOW,
            tmp_path / "work",
            workers=1,
            deadline=60,
            progress=lambda *now: told.append(now),
        )

    reason = "frames of 64 x 10 pixels are too small for optical flow"
    failed = [{"path": str(tiny), "reason": reason}]
    size = os.path.getsize(file_of(str(paths[0]), FLOW) or "") if run() else 0
    assert told[-1] == (2, 2)
    assert run() == {"done": 0, "skipped": 1, "failed": failed, "bytes": size}
    assert list((tmp_path / "work").iterdir()) == []
    row = Row(str(paths[0]), probe=probe(paths[0]))
    flow = reader.open_flow(row, open_row(row), FLOW).get([0, 5])
    stored = FlowFile(file_of(row.path, FLOW) or "")
    assert np.array_equal(stored.get([0, 5]), flow)


def test_prepare_stops_on_a_full_disk(
    own_videos: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(precompute, "write_flow", full)
    row = own_videos.rows[0]
    item = {"video": row.path, "target": file_of(row.path, FLOW), "partial": f"{row.path}.part"}
    why = flow_item({**item, "flow": vars(FLOW)})
    assert why == "No space left on device"
    outcome = precompute.Outcome({**item, "flow": vars(FLOW)}, why)
    monkeypatch.setattr(precompute, "_outcomes", lambda *_: iter([outcome]))
    with pytest.raises(VidinitError, match="cannot be written: No space left on device"):
        prepare_flow([Path(row.path)], FLOW, tmp_path / "work", workers=1, deadline=60)


def test_the_command_writes_flow_beside_the_copies(own_videos: Rows, tmp_path: Path) -> None:
    source, out = tmp_path / "two", tmp_path / "copies"
    for row in own_videos.rows[:2]:
        write_video(source / "sub" / Path(row.path).name, translating(2, 0, frames=5))
    words = ["data", "prepare", str(source), str(out), "--flow", "dis", "--workers", "1", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)["flow"]
    assert (result["done"], result["skipped"], result["failed"]) == (2, 0, [])
    files = sorted((out / "sub" / ".flow").iterdir())
    assert [file.name for file in files] == ["0.mp4.dis-20.avi", "1.mp4.dis-20.avi"]
    assert result["bytes"] == sum(file.stat().st_size for file in files)
    copies = [Row(str(path), probe=probe(path)) for path in sorted((out / "sub").glob("*.mp4"))]
    assert all(stored_flow(row, FLOW) for row in copies)
    assert torch.is_tensor(views(Rows(tuple(copies)), flow=FLOW)[0]["views"])


def test_the_command_knows_its_methods(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "prepare", str(tmp_path), "out", "--flow", "dos"])
    assert done.exit_code == 2
    assert "did you mean 'dis'" in done.output
