from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from data.readers import making
from support import MODEL, moving_bar, write_video

import vidinit
from vidinit.data.readers import decord
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.shared.heads import new_head
from vidinit.zoo.pair import PairModel, trunk_of
from vidinit.zoo.probabilities import ranked
from vidinit.zoo.view_outputs import predict_file


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = vidinit.create_model(MODEL, num_classes=3, frames=2).eval()
    model.spec = type(model.spec)(frames=2, stride=1, size=32)
    return model


def test_heads_have_names_or_numbers(model):
    assert model.class_names_by_head() == {"classes": ["0", "1", "2"]}
    model.classes = ["cut", "wash", "open"]
    pair = PairModel(model, new_head(model, 2), ["cup", "pan"])
    assert pair.class_names_by_head() == {"verbs": model.classes, "nouns": ["cup", "pan"]}
    assert trunk_of(pair) is model and trunk_of(model) is model


def test_classes_are_ranked():
    values = np.array([0.2, 0.5, 0.3])
    assert ranked({"classes": ["a", "b", "c"]}, values, 2) == {"classes": [("b", 0.5), ("c", 0.3)]}
    heads = {"verbs": ["a", "b"], "nouns": ["x", "y", "z"]}
    best = ranked(heads, np.array([0.6, 0.4, 0.1, 0.7, 0.2]), 3)
    assert best["verbs"] == [("a", 0.6), ("b", 0.4)]
    assert best["nouns"] == [("y", 0.7), ("z", 0.2), ("x", 0.1)]
    assert [name for name, _ in best["classes"]] == ["a y", "b y", "a z"]
    assert [value for _, value in best["classes"]] == pytest.approx([0.42, 0.28, 0.12])


def test_of_a_damaged_file_the_beginning_is_taken_and_said(model, tmp_path, capfd):
    file = making.cut(
        making.encode(tmp_path / "a.avi", paint=making.noisy), tmp_path / "cut.avi", 60
    )
    assert len(model.predict(file)) == 3
    assert re.search(r"note: .*cut\.avi: kept \d+ of 40 frames \(it is cut", capfd.readouterr().err)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_bad_files_do_not_end_the_process(model, tmp_path, codec):
    """Headers and packets of AVI files with random bytes: classes, or an error that says why."""
    sound = making.encode(tmp_path / "a.avi", codec).read_bytes()
    outcomes = set()
    for seed in range(25):
        random = np.random.default_rng(seed)
        data = bytearray(sound)
        for at in random.integers(0, len(data) if seed % 2 else 400, 6):
            data[at : at + 4] = random.bytes(4)
        (tmp_path / "b.avi").write_bytes(data)
        try:
            outcomes.add(len(model.predict(tmp_path / "b.avi")))
        except DataError as error:
            assert "cannot read" in error.message
            outcomes.add(0)
    assert outcomes == {0, 3}


def test_decord_which_ends_processes_is_not_asked(model, tmp_path, monkeypatch):
    file = making.encode(tmp_path / "a.mp4")
    monkeypatch.setattr(decord, "load", lambda: pytest.fail("decord is loaded"))
    assert len(model.predict(file)) == 3


def test_one_file_in_this_process(model, tmp_path):
    file = write_video(tmp_path / "a.mp4", moving_bar(2, 0))
    best = predict_file(model.train(), file, topk=2)
    assert model.training and len(best) == 2 and best[0][1] >= best[1][1]
    assert best == model.predict(file, topk=2)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"cannot read .*bad\.mp4"):
        predict_file(model, tmp_path / "bad.mp4")
    with pytest.raises(UsageError, match="no such file"):
        predict_file(model, tmp_path / "none.mp4")
    with pytest.raises(UsageError, match="topk"):
        predict_file(model, file, topk=0)
