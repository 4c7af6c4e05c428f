from __future__ import annotations

import numpy as np
import pytest
import torch
from support import moving_bar, write_video

import vidinit
from vidinit.config import FinetuneConfig
from vidinit.data.decode import open_video
from vidinit.data.sources import Row, Rows
from vidinit.data.transforms import eval_crops
from vidinit.data.views import eval_indices
from vidinit.engine.fit import make_accelerator
from vidinit.engine.scoring import Scores, pixels_of, score, wilson
from vidinit.errors import DataError, UsageError


def make(probabilities, labels) -> Scores:
    return Scores(np.array(probabilities, dtype=float), np.array(labels), [])


def test_accuracies():
    scores = make([[0.6, 0.4], [0.9, 0.1], [0.3, 0.7], [np.nan, np.nan]], [0, 1, 1, 0])
    assert scores.readable.tolist() == [True, True, True, False]
    metrics = scores.metrics()
    assert metrics["top1"] == pytest.approx(2 / 3)
    assert metrics["top5"] == 1.0
    assert metrics["mean_class_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert scores.confusion().tolist() == [[1, 0], [1, 1]]


def test_top5_counts_the_first_five():
    ranks = np.eye(8)[0] * 0 + np.arange(8, 0, -1) / 36
    assert make([ranks, ranks], [4, 5]).metrics()["top5"] == 0.5


def test_wilson_interval():
    low, high = wilson(0.28, 480)
    assert (low, high) == (pytest.approx(0.2418, abs=1e-3), pytest.approx(0.3218, abs=1e-3))
    assert wilson(0.0, 10)[0] == pytest.approx(0.0, abs=1e-9)
    assert wilson(0.5, 0) == (0.0, 1.0)


def test_multi_view_scores_equal_a_plain_loop_over_views(trained, motion_set):
    model = vidinit.load(trained)
    files = sorted((motion_set / "val").rglob("*.mp4"))
    missing = motion_set / "val" / "none.mp4"
    rows = Rows(tuple(Row(f, 0) for f in [*files, missing]), ("left", "right"))
    accelerator = make_accelerator(FinetuneConfig(model="r3d50", device="cpu"))
    scores = score(model, rows, model.spec, accelerator, num_classes=2, clips=3, crops=3)
    assert scores.missing[0][0] == str(missing) and np.isnan(scores.probabilities[-1]).all()
    spec = model.spec
    for i, file in enumerate(files):
        reader = open_video(file)
        total = torch.zeros(2, dtype=torch.float64)
        for indices in eval_indices(reader.num_frames, spec.frames, spec.stride, 3):
            frames = reader.get(indices)
            for crop in eval_crops(frames, size=spec.size, pixels=pixels_of(spec), crops=3):
                with torch.no_grad():
                    total += model(crop.unsqueeze(0))[0].double().softmax(0)
        assert np.abs(scores.probabilities[i] - (total / 9).numpy()).max() < 1e-6


def test_predict(trained, motion_set, tmp_path):
    model = vidinit.load(trained)
    file = motion_set / "val" / "left" / "0.mp4"
    best = model.predict(file)
    assert {name for name, _ in best} == {"left", "right"}
    assert sum(p for _, p in best) == pytest.approx(1) and best[0][1] >= best[1][1]
    assert len(model.predict(file, topk=1)) == 1
    (tmp_path / "bad.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        model.predict(tmp_path / "bad.mp4")
    with pytest.raises(UsageError, match="no such file"):
        model.predict(tmp_path / "none.mp4")
    both = vidinit.predict(trained, [file, tmp_path / "bad.mp4"])
    assert both[0].classes == best and both[0].error is None
    assert both[1].classes == [] and "empty" in both[1].error


def test_evaluation_lists_what_it_could_not_read(trained, tmp_path):
    for name, step in (("left", -4), ("right", 4)):
        write_video(tmp_path / "data" / name / "1.mp4", moving_bar(step, 7))
    (tmp_path / "data" / "left" / "bad.mp4").write_bytes(b"")
    result = vidinit.evaluate(trained, data=tmp_path / "data", out=tmp_path / "e")
    assert result["videos"] == 2
    assert result["missing"] == [str(tmp_path / "data" / "left" / "bad.mp4")]


def test_a_class_the_model_does_not_know_is_an_error(trained, tmp_path):
    for name in ("left", "up"):
        write_video(tmp_path / "data" / name / "1.mp4", moving_bar(2, 7))
    with pytest.raises(DataError, match="class 'up'"):
        vidinit.evaluate(trained, data=tmp_path / "data", out=tmp_path / "e")
