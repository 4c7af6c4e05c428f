from __future__ import annotations

import numpy as np
import pytest
import torch
from support import MODEL, moving_bar, write_video

import vidinit
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
