from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from data.readers import making
from predict_support import lively, lively_run
from support import moving_bar, write_video

import vidinit
from vidinit import checkpoint
from vidinit.data.index import known_probes
from vidinit.data.loading import unprobed
from vidinit.data.loading.unprobed import with_probe
from vidinit.data.readers import open_video
from vidinit.data.rows import Row, Rows
from vidinit.data.sources import labeled_rows
from vidinit.engine.accelerators import make_accelerator
from vidinit.errors import DataError, UsageError, VidinitError
from vidinit.pipelines.shared.heads import new_head
from vidinit.scoring.score import probabilities_by_row
from vidinit.zoo.pair import PairModel

HERE = ["data.workers=0"]


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_run(trained, tmp_path_factory.mktemp("runs") / "lively")


@pytest.fixture(scope="module")
def files(motion_set: Path) -> list[str]:
    return sorted(str(file) for file in (motion_set / "val").rglob("*.mp4"))


@pytest.mark.parametrize(
    "views", [pytest.param({}, marks=pytest.mark.slow), {"clips": 2, "crops": 3}]
)
def test_a_prediction_is_what_eval_scores(run, files, motion_set, tmp_path, views):
    found = vidinit.predict(run, files, **views)
    vidinit.evaluate(run, data=motion_set, out=tmp_path / "e", **views)
    with (tmp_path / "e" / "predictions.csv").open(newline="") as file:
        table = {row["path"]: row for row in csv.DictReader(file)}
    assert len(table) == 6
    for prediction in found:
        name, value = prediction.classes[0]
        row = table[prediction.file]
        assert (row["prediction"], float(row["probability"])) == (
            name,
            pytest.approx(value, abs=1e-6),
        )
    assert np.std([dict(one.classes)["left"] for one in found]) > 1e-3


def test_all_probabilities_are_those_of_scoring(run, files, motion_set):
    from vidinit.pipelines.evaluate.settings import EvaluateConfig

    model = vidinit.load(run)
    rows = labeled_rows(motion_set / "val")
    config = EvaluateConfig(model=str(run), device="cpu")
    scored = dict(
        probabilities_by_row(model, rows, model.spec, make_accelerator(config), batch_size=4)
    )
    by_path = {rows.rows[index].path: values for index, values in scored.items()}
    for prediction in vidinit.predict(run, files, batch_size=3):
        given = [dict(prediction.classes)[name] for name in ("left", "right")]
        assert given == pytest.approx(by_path[prediction.file].tolist(), abs=1e-6)


def test_files_are_told_in_their_order_as_they_are_known(run, files, tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video\n" * 200)
    given = [files[3], str(tmp_path / "none.mp4"), files[0], tmp_path / "empty.mp4"]
    given += [tmp_path / "text.mp4", files[0]]
    told = []
    found = vidinit.predict(run, given, overrides=HERE, batch_size=2, tell=told.append)
    assert told == found and [one.file for one in found] == list(map(str, given))
    assert [one.error for one in found[:4]] == [None, "no such file", None, "the file is empty"]
    assert "no video" in found[4].error and found[4].classes == []
    assert dict(found[5].classes) == pytest.approx(dict(found[2].classes))
    assert found[0].path == Path(files[3]) and found[0].as_dict()["path"] == files[3]


@pytest.mark.skipif(sys.platform != "linux", reason="what is patched here has to be forked")
def test_files_that_hang_or_kill_their_decoder_cost_only_themselves(
    run, files, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("multiprocessing.get_context", _fork())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    really = unprobed.probe

    def probe(path, **options):
        if path == files[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        if path == files[3]:
            time.sleep(60)
        return really(path, **options)

    monkeypatch.setattr(unprobed, "probe", probe)
    settings = ["data.workers=2", "data.deadline=1"]
    found = vidinit.predict(run, files, overrides=settings, batch_size=2)
    assert [one.error is None for one in found] == [True, False, True, False, True, True]
    assert "killed" in found[1].error or "SIGKILL" in found[1].error
    assert "1 s" in found[3].error
    # The one that hung is remembered.
    assert set(known_probes(Rows(tuple(map(Row, files))))[1]) == {3}


def _fork():
    import multiprocessing

    fork = multiprocessing.get_context("fork")
    return lambda method=None: fork


def test_of_a_damaged_file_the_beginning_is_predicted_and_said(run, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = making.damaged_between(tmp_path)
    assert not with_probe(Row(str(path))).probe.fault, "nobody has looked there"
    (found,) = vidinit.predict(run, path, overrides=HERE, clips=5)
    kept = with_probe(Row(str(path)), full=True).probe.kept
    assert found.error is None and found.classes
    assert re.fullmatch(r"kept \d+ of 40 frames \(frame \d+ does not decode \(.*\)\)", kept)
    assert found.kept == found.as_dict()["kept"] == kept
    assert f"note: {path}: {kept}" in capfd.readouterr().err
    # What a check says is the same, and then also without having met the damage.
    vidinit.check_data(path, full=True)
    (one,) = vidinit.predict(run, path, overrides=HERE)
    assert one.kept == kept
    (dropped,) = vidinit.predict(run, path, overrides=[*HERE, "data.partial=drop"])
    assert dropped.classes == [] and dropped.error in kept


def test_eval_scores_the_same_beginning(run, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("left", "right"):
        (tmp_path / "set" / name).mkdir(parents=True)
        path = making.damaged_between(tmp_path / "set" / name)
    data, views = tmp_path / "set", {"clips": 5, "overrides": HERE}
    dropped = [*HERE, "data.partial=drop"]
    found = vidinit.evaluate(run, data=data, clips=5, overrides=dropped, out=tmp_path / "d")
    assert [Path(place).name for place in found["missing"]] == ["damaged.mp4"] * 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    capfd.readouterr()
    found = vidinit.evaluate(run, data=data, out=tmp_path / "k", **views)
    assert found["missing"] == [] and found["videos"] == 4
    kept = with_probe(Row(str(path)), full=True).probe.kept
    assert capfd.readouterr().err.count(f"note: {path}: {kept}") == 1
    assert known_probes(Rows((Row(str(path)),)))[0].rows[0].probe.kept == kept
    with (tmp_path / "k" / "predictions.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    (one,) = vidinit.predict(run, path, **views)
    name, value = one.classes[0]
    assert rows[str(path)]["prediction"] == name
    assert float(rows[str(path)]["probability"]) == pytest.approx(value, abs=1e-6)


def test_a_timeline_of_avi_with_b_frames(run, tmp_path, capfd):
    path = making.encode(tmp_path / "a.avi")
    told = []
    vidinit.predict(run, path, timeline=True, out=tmp_path / "out", tell=told.append)
    clips = told[:-1]
    assert clips[0].start == 0 and clips[-1].end == pytest.approx(40 / 25)
    starts = [clip.start for clip in clips]
    assert starts == sorted(set(starts)) and not [clip for clip in clips if clip.error]


def test_features_are_what_the_head_is_given(run, files, tmp_path):
    place, bad = tmp_path / "f.npz", tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    found = vidinit.predict(run, [files[0], bad, files[4]], features=place, crops=3, overrides=HERE)
    saved = np.load(place)
    assert saved["paths"].tolist() == [files[0], files[4]] and saved["model"] == str(run)
    assert saved["features"].dtype == np.float32
    model = vidinit.load(run)
    assert saved["features"].shape == (2, model.num_features)
    crops = unprobed.UnprobedDataset(**vars(_views(model, files[0], crops=3)))[0]["views"]
    from vidinit.data.pixels.batch import normalize

    with torch.no_grad():
        own = model.embed(normalize(crops, model.spec.mean, model.spec.std)).mean(0)
    assert torch.allclose(torch.from_numpy(saved["features"][0]), own, atol=1e-5)
    assert found[1].error == "the file is empty"
    with pytest.raises(UsageError, match="exists"):
        vidinit.predict(run, files, features=place)
    assert [p.name for p in tmp_path.glob("*f.npz*")] == ["f.npz"]


def _views(model, file, **options):
    from vidinit.zoo.view_outputs import views_of

    return views_of(Rows((Row(file),)), model.spec, **options)


def test_features_that_do_not_fit_leave_the_earlier_file(run, files, tmp_path, monkeypatch):
    place = tmp_path / "f.npz"
    place.write_bytes(b"before")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(VidinitError, match=r"No space left on device\): it takes 0.0 MB"):
        vidinit.predict(run, files[:1], features=place, overwrite=True, overrides=HERE)
    assert place.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_a_timeline_that_cannot_be_written_or_told(run, files, tmp_path, monkeypatch):
    def leave(_):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):  # of whoever is told, and no trouble of the disk
        vidinit.predict(
            run, files[0], timeline=True, out=tmp_path / "a", overrides=HERE, tell=leave
        )

    replace = os.replace

    def full(source, target):
        if Path(target).suffix == ".jsonl":  # the run's folder itself is there before
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("vidinit.pipelines.predict.timelines.os.replace", full)
    with pytest.raises(VidinitError, match="No space left on device"):
        vidinit.predict(run, files[0], timeline=True, out=tmp_path / "b", overrides=HERE)
    for name in "ab":
        assert list((tmp_path / name / "timelines").iterdir()) == []


def test_a_long_file_goes_to_windows_by_itself_and_says_so(run, tmp_path, monkeypatch, capfd):
    """31 s of a bar that goes left, then right, then left; clips of 4 of 12 frames a second."""
    monkeypatch.chdir(tmp_path)
    parts = [moving_bar(step, 1, frames=124) for step in (-4, 4, -4)]
    video = write_video(tmp_path / "long.mp4", np.concatenate(parts))
    assert video.stat().st_size > 1 << 16
    (whole,) = vidinit.predict(run, video, overrides=HERE)
    told = capfd.readouterr().err
    assert "long.mp4 is 0:31.0 long and a clip shows 0.33 s of it" in told
    assert "--no-timeline: one answer" in told and whole.timeline is not None
    assert whole.events[0].start == 0 and whole.events[-1].end == pytest.approx(31.0, abs=1e-6)
    for one, other in pairwise(whole.events):
        assert one.end == pytest.approx(other.start) and one.label != other.label
    lines = [json.loads(line) for line in Path(whole.timeline).read_text().splitlines()]
    best = [line["classes"][0]["class"] for line in lines]
    assert len(whole.events) == 1 + sum(a != b for a, b in pairwise(best))
    for options in ({"timeline": False}, {"clips": 2}, {"features": tmp_path / "f.npz"}):
        (one,) = vidinit.predict(run, video, overrides=HERE, **options)
        assert one.events is None and one.timeline is None
    both = vidinit.predict(run, [video, video], overrides=HERE)
    assert [one.events for one in both] == [None, None], "several files have one answer each"
    out = tmp_path / "found"
    (found,) = vidinit.predict(
        run, video, positive="right", threshold=0.3, smooth=1.0, out=out, overrides=HERE,
        events=tmp_path / "e.csv",
    )  # fmt: skip
    assert {one.label for one in found.events} <= {"right"}
    rows = list(csv.DictReader((tmp_path / "e.csv").open()))
    assert [float(row["start"]) for row in rows] == pytest.approx(
        [one.start for one in found.events], abs=1e-3
    )


def test_a_timeline_tells_of_bad_files_and_keeps_names_apart(run, files, tmp_path):
    (tmp_path / "0.mp4").write_bytes(b"")
    given = [tmp_path / "0.mp4", files[0], files[3], files[0]]
    told = []
    found = vidinit.predict(
        run, given, timeline=True, every=0.2, out=tmp_path / "t", overrides=HERE, tell=told.append
    )
    assert [one.error for one in found] == ["the file is empty", None, None, None]
    assert [Path(one.timeline).name for one in found[1:]] == [
        "0.mp4.jsonl", "0.mp4-2.jsonl", "0.mp4-3.jsonl"
    ]  # fmt: skip
    assert told[0] == found[0] and told[-1] == found[3]
    clips = [one.start for one in told if one.file == files[3] and one.start is not None]
    assert clips == pytest.approx([0, 2 / 12, 4 / 12, 6 / 12])  # 10 frames, clips of 4
    assert found[1].classes == found[3].classes != found[2].classes


def test_two_heads_and_several_labels(trained, files, tmp_path):
    model = lively(trained)
    noun = new_head(model, 3)
    model.label_kind = "pair"
    pair = PairModel(model, noun, ["cup", "pan", "lid"])
    checkpoint.save_model(model, tmp_path / "pair", **pair.save_options())
    (one,) = vidinit.predict(tmp_path / "pair", files[0], topk=3, overrides=HERE)
    assert vidinit.predict(pair, files[0], topk=3, overrides=HERE) == [one]
    verbs, nouns = dict(one.verbs), dict(one.nouns)
    assert set(verbs) == {"left", "right"} and set(nouns) == {"cup", "pan", "lid"}
    for name, value in one.classes:
        verb, thing = name.split()
        assert value == pytest.approx(verbs[verb] * nouns[thing])
    assert set(one.as_dict()) == {"path", "classes", "verbs", "nouns"}
    (verb,) = vidinit.predict(tmp_path / "pair", files[0], head="verb", overrides=HERE)
    assert dict(verb.classes) == pytest.approx(verbs) and verb.verbs is None
    model.label_kind = "multi"
    (each,) = vidinit.predict(model, files[0], overrides=HERE)
    logit = {name: float(np.log(value / (1 - value))) for name, value in each.classes}
    odds = np.exp(logit["left"] - logit["right"])
    assert verbs["left"] / verbs["right"] == pytest.approx(odds, rel=1e-4)


def test_images_numbers_for_names_and_random_weights(run, picture_set, capfd):
    image = str(picture_set / "red" / "0.png")
    model = vidinit.load(run)
    model.classes = None
    (one,) = vidinit.predict(model, image, overrides=HERE)
    assert {name for name, _ in one.classes} == {"0", "1"}
    still = np.repeat(open_video(image).get([0]), 4, axis=0)
    assert one.classes[0][1] == pytest.approx(_score(model, still), abs=1e-6)
    (short,) = vidinit.predict(run, image, overrides=[*HERE, "data.frames=1"])
    assert short.classes[0][1] != pytest.approx(one.classes[0][1], abs=1e-7)
    small = ["data.frames=2", "data.size=32", *HERE]
    (random,) = vidinit.predict("s3d-mobilenetv2_050", image, topk=1, overrides=small)
    assert int(random.classes[0][0]) < 400
    assert "its weights are random and its classes numbers" in capfd.readouterr().err


def _score(model, frames) -> float:
    from vidinit.data.pixels.transforms import eval_crops
    from vidinit.zoo.view_outputs import probabilities_of

    spec = model.spec
    crops = eval_crops(
        frames, size=spec.size, crop_pct=spec.crop_pct, interpolation=spec.interpolation
    )
    return float(probabilities_of(model, crops[None], model.spec).max())


def test_scores_that_are_no_numbers_are_an_error(run, files):
    model = vidinit.load(run)
    model.head.bias.data.fill_(float("nan"))
    (one,) = vidinit.predict(model, files[0], overrides=HERE)
    assert one.classes == [] and "not numbers" in one.error


def test_a_model_keeps_its_mode(run, files):
    model = vidinit.load(run).train()
    vidinit.predict(model, files[0], overrides=HERE)
    assert model.training and not model.dropout._forward_pre_hooks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 0}, "topk must be at least 1"),
        ({"timeline": False, "every": 2.0}, "--every is for a timeline"),
        ({"timeline": False, "out": "x"}, "--out is for a timeline"),
        ({"timeline": False, "smooth": 2.0}, "--smooth is for a timeline"),
        ({"smooth": -1.0}, "0 s or more"),
        ({"threshold": "1.5"}, "0 to 1"),
        ({"events": "e.txt"}, "end its name in"),
        ({"positive": "rihgt"}, "no class 'rihgt'"),
        ({"timeline": True, "every": 0.0}, "above 0 s"),
        ({"timeline": True, "clips": 2}, "clips of its own"),
        ({"timeline": True, "features": "f.npz"}, "--features"),
        ({"features": "f.csv"}, "no .npz file"),
        ({"features": "absent/f.npz"}, "no folder"),
        ({"crops": 2}, "crops"),
        ({"batch_size": "auto"}, "for training"),
        ({"head": "other"}, "no head 'other'"),
        ({"overrides": ["data.frame=1"]}, "data.frames"),
        ({"overrides": ["eval.dense=true"]}, r"not read eval.dense .*data.\{batch_size,.*eval"),
        ({"overrides": {"data.train": "x"}}, r"does not read data.train \(in the overrides\)"),
        ({"timeline": True, "overrides": ["eval.clips=3"]}, "clips of its own"),
    ],
)
def test_wrong_values_are_named(run, files, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        vidinit.predict(run, files[0], **options)
    assert list(tmp_path.iterdir()) == []


def test_no_file_no_classes_no_group(run, files, tmp_path, monkeypatch):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=f"no video and no image in {tmp_path / 'none'}"):
        vidinit.predict(run, tmp_path / "none")
    with pytest.raises(DataError, match="an empty list"):
        vidinit.predict(run, [])
    with pytest.raises(UsageError, match="its head and its device"):
        vidinit.predict(vidinit.load(run), files[0], head="verb")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n  \n\n")))
    with pytest.raises(DataError, match="stdin"):
        vidinit.predict(run, "-")
    bare = vidinit.load(run)
    bare.num_classes = 0
    with pytest.raises(UsageError, match="no classes"):
        vidinit.predict(bare, files[0])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process"):
        vidinit.predict(run, files[0])


def test_what_eval_does_not_count_as_readable_is_an_error_here(run, tmp_path):
    """Its center can be read, its last frame cannot: all commands keep or leave out the same."""
    whole = write_video(tmp_path / "whole.mp4", moving_bar(2, 1, frames=40)).read_bytes()
    cut = tmp_path / "cut.mp4"
    start, end = whole.index(b"mdat"), whole.index(b"moov")
    spoiled = start + 2 * (end - start) // 3
    cut.write_bytes(whole[:spoiled] + bytes(end - 4 - spoiled) + whole[end - 4 :])
    (one,) = vidinit.predict(run, cut, overrides=[*HERE, "data.partial=drop"])
    with pytest.raises(DataError):
        vidinit.check_data(cut, partial="drop")
    assert one.error is not None
    (told,) = vidinit.check_data(cut)["partial"]
    (one,) = vidinit.predict(run, cut, overrides=HERE)
    assert one.error is None
    assert one.kept == f"kept {told['kept']} of {told['of']} frames ({told['reason']})"


def test_a_spec_that_takes_all_frames(run, tmp_path):
    paths = [write_video(tmp_path / f"{n}.mp4", moving_bar(2, n, frames=n)) for n in (4, 7)]
    model = vidinit.load(run)
    model.spec = replace(model.spec, sampling="all")
    found = vidinit.predict(model, paths, overrides=HERE)
    assert [one.error for one in found] == [None, None]
