from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from predict_support import enliven
from support import MODEL, moving_bar, write_video

import vidinit
from vidinit import checkpoint
from vidinit.data.loading.quarantine import Quarantine
from vidinit.data.pixels.batch import normalize
from vidinit.data.pixels.transforms import eval_crops
from vidinit.data.readers import open_video
from vidinit.data.rows import Row, Rows
from vidinit.data.views import Sampling, eval_indices
from vidinit.engine.accelerators import make_accelerator
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.finetune.task import ClassifyTask
from vidinit.scoring.metrics import Scores, pair_label, wilson
from vidinit.scoring.score import score
from vidinit.zoo.base import VideoModel
from vidinit.zoo.spec import ClipSpec
from vidinit.zoo.view_outputs import predict_file, probabilities_of, views_of

NOUNS = ("cup", "pan", "lid")


def make(probabilities, labels) -> Scores:
    return Scores(np.array(probabilities, dtype=float), np.array(labels), [])


def network() -> VideoModel:
    """Not trained, but with statistics and a head that tell moving bars apart."""
    torch.manual_seed(0)
    model = vidinit.create_model(MODEL, num_classes=2, frames=4)
    model.spec = replace(model.spec, frames=4, stride=2, size=32)
    model.classes = ["left", "right"]
    return enliven(model)


def pair_of(model: VideoModel) -> ClassifyTask:
    noun = torch.nn.Linear(model.num_features, 3)
    torch.nn.init.normal_(noun.weight, std=float(model.head.weight.detach().std()))
    return ClassifyTask(model, kind="pair", nouns=NOUNS, noun_head=noun).eval()


@pytest.fixture(scope="module")
def files(motion_set) -> list[Path]:
    return sorted((motion_set / "val").rglob("*.mp4"))


@pytest.fixture(scope="module")
def accelerator():
    return make_accelerator(FinetuneConfig(model="r3d50", device="cpu"))


def rows_of(files, labels, **what) -> Rows:
    pairs = zip(files, labels, strict=True)
    return Rows(tuple(Row(str(f), label) for f, label in pairs), ("left", "right"), **what)


def test_accuracies():
    scores = make([[0.6, 0.4], [0.9, 0.1], [0.3, 0.7], [np.nan, np.nan]], [0, 1, 1, 0])
    assert scores.readable.tolist() == [True, True, True, False]
    metrics = scores.metrics()
    assert list(metrics) == ["top1", "top5", "mean_class_accuracy"]
    assert metrics["top1"] == pytest.approx(2 / 3)
    assert metrics["top5"] == 1.0
    assert metrics["mean_class_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert scores.confusion().tolist() == [[1, 0], [1, 1]]


def test_top5_counts_the_first_five():
    ranks = np.arange(8, 0, -1) / 36
    assert make([ranks, ranks], [4, 5]).metrics()["top5"] == 0.5


def test_what_could_not_be_read_is_not_counted():
    nan = np.full((1, 2), np.nan)
    values = np.concatenate([nan, [[0.2, 0.8], [0.6, 0.4]]])
    multi = Scores(values, np.array([[1, 1], [0, 1], [0, 1]], bool), [("x", "gone")], "multi")
    # Class 0 occurs in the missing video only; of class 1 both are right.
    assert multi.metrics() == {"map": 1.0, "top1": 0.5, "top5": 1.0}
    with pytest.raises(ValueError, match="no confusion"):
        multi.confusion()
    nouns = np.concatenate([np.full((1, 3), np.nan), [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]])
    labels = np.array([[0, 0], [1, 1], [0, 2]])
    pair = Scores(values, labels, [("x", "gone")], "pair", nouns)
    assert pair.metrics() == pair_label(values[1:], nouns[1:], labels[1:])
    assert (pair.metrics()["top1"], pair.metrics()["top1_verb"]) == (0.5, 1.0)
    verb, noun = pair.heads().values()
    assert verb.confusion().tolist() == [[1, 0], [0, 1]]
    assert noun.confusion().tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_predictions_in_words():
    nan = np.full((1, 2), np.nan)
    classes = ["cut", "open"]
    single = Scores(np.concatenate([[[0.25, 0.75]], nan]), np.array([0, 1]), [("x", "gone")])
    assert list(single.predictions(classes)) == [("cut", "open", "0.750000"), ("open", "", "")]
    labels = np.array([[1, 1], [0, 0]], bool)
    multi = Scores(np.array([[0.25, 0.75], [0.5, 0.1]]), labels, [], "multi")
    want = [("cut|open", "open", "0.750000"), ("", "cut", "0.500000")]
    assert list(multi.predictions(classes)) == want
    nouns = np.array([[0.5, 0.3, 0.2]])
    pair = Scores(np.array([[0.25, 0.75]]), np.array([[1, 2]]), [], "pair", nouns)
    assert list(pair.predictions(classes, NOUNS)) == [("open lid", "open cup", "0.375000")]
    unlabelled = Scores(np.array([[0.25, 0.75]]), np.array([[-1, -1]]), [], "pair", nouns)
    assert next(unlabelled.predictions(classes, NOUNS))[0] == ""


def test_wilson_interval():
    low, high = wilson(0.28, 480)
    assert (low, high) == (pytest.approx(0.2418, abs=1e-3), pytest.approx(0.3218, abs=1e-3))
    assert wilson(0.0, 10)[0] == pytest.approx(0.0, abs=1e-9)
    assert wilson(0.5, 0) == (0.0, 1.0)


def test_multi_view_scores_equal_a_plain_loop_over_views(files, motion_set, accelerator):
    model = network().double()  # the order of sums in kernels of float32 is another matter

    class Double(torch.nn.Module):
        def forward(self, clip):
            return model(clip.double())

    missing = motion_set / "val" / "none.mp4"
    files = files[2:4]
    rows = rows_of([*files, missing], [0, 1, 1])
    scores = score(Double().eval(), rows, model.spec, accelerator, num_classes=2, clips=3, crops=3)
    assert [path for path, _ in scores.missing] == [str(missing)]
    assert scores.readable.tolist() == [True, True, False]
    spec = model.spec
    for i, file in enumerate(files):
        reader = open_video(str(file))
        total = torch.zeros(2, dtype=torch.float64)
        for indices in eval_indices(reader.num_frames, Sampling(4, 2), 3):
            crops = eval_crops(
                reader.get(indices),
                size=32,
                crop_pct=spec.crop_pct,
                interpolation=spec.interpolation,
                crops=3,
            )
            for crop in crops:
                clip = normalize(crop.unsqueeze(0), spec.mean, spec.std)
                with torch.no_grad():
                    total += model(clip.double())[0].softmax(0)
        assert np.abs(scores.probabilities[i] - (total / 9).numpy()).max() < 1e-6
    assert scores.probabilities[:-1].std(axis=0).min() > 0.01, "the videos are told apart"


def test_classes_of_a_multi_label_model_do_not_share_one_probability(files, accelerator):
    model = network()
    ClassifyTask(model, kind="multi").eval()
    labels = [(0,), (0, 1), (), (1,), (0,), (0, 1)]
    rows = rows_of(files, labels, kind="multi")
    scores = score(model, rows, model.spec, accelerator, num_classes=2)
    assert np.ptp(scores.probabilities.sum(axis=1)) > 0.05
    hot = [[1, 0], [1, 1], [0, 0], [0, 1], [1, 0], [1, 1]]
    assert scores.labels.astype(int).tolist() == hot and scores.kind == "multi"
    assert list(scores.metrics()) == ["map", "top1", "top5"]
    # The same logits by softmax, as of a model with one class a clip.
    model.label_kind = "single"
    shared = score(model, rows, model.spec, accelerator, num_classes=2).probabilities
    assert np.allclose(shared.sum(axis=1), 1)
    odds = scores.probabilities / (1 - scores.probabilities)
    assert np.allclose(odds / odds.sum(axis=1, keepdims=True), shared, atol=1e-9)


def test_pairs_are_scored_with_both_heads(files, accelerator):
    model = network()
    task = pair_of(model)
    labels = [(0, 2), (1, 1), (0, 0), None, (1, 2), (0, 1)]
    rows = rows_of(files, labels, kind="pair", nouns=NOUNS)
    scores = score(task.classifier(), rows, model.spec, accelerator, num_classes=2)
    assert scores.nouns is not None and scores.nouns.shape == (6, 3)
    assert np.allclose(scores.nouns.sum(axis=1), 1)
    assert scores.labels.tolist()[2:4] == [[0, 0], [-1, -1]]
    model.label_kind = "single"
    alone = score(model, rows_of(files, [0] * 6), model.spec, accelerator, num_classes=2)
    assert np.allclose(alone.probabilities, scores.probabilities, atol=1e-9)
    assert scores.metrics()["top1_action"] == scores.metrics()["top1"]


def test_scores_that_are_no_numbers_are_listed(files, accelerator):
    class Broken(torch.nn.Module):
        def forward(self, clip):
            return torch.full((len(clip), 2), torch.nan)

    rows = rows_of(files[:2], [0, 1])
    scores = score(Broken(), rows, network().spec, accelerator, num_classes=2)
    assert [path for path, _ in scores.missing] == [str(file) for file in files[:2]]
    assert "not numbers" in scores.missing[0][1] and not scores.readable.any()


def test_what_is_in_quarantine_is_not_tried(files, accelerator):
    quarantine = Quarantine()
    quarantine.reasons[1] = "the decoder hangs"
    model, rows = network(), rows_of(files[:3], [0, 1, 0])
    spec = model.spec
    scores = score(model, rows, spec, accelerator, num_classes=2, quarantine=quarantine)
    assert scores.missing == [(str(files[1]), "the decoder hangs")]
    assert scores.readable.tolist() == [True, False, True]


def test_views_are_cut_as_the_specification_says():
    spec = ClipSpec(
        8, 2, 64, interpolation="bicubic", crop_pct=0.9, sampling="uniform", short="hold"
    )
    views = views_of(Rows(()), spec, clips=2, crops=3, reader="pyav", decode_side=99)
    assert views.sampling == Sampling(8, 2, "uniform", "hold")
    assert (views.size, views.crop_pct, views.interpolation) == (64, 0.9, "bicubic")
    assert (views.clips, views.crops, views.reader, views.decode_side) == (2, 3, "pyav", 99)


def test_videos_of_other_lengths_with_all_their_frames(tmp_path, accelerator):
    paths = [
        write_video(tmp_path / f"{n}.mp4", moving_bar(2, n, frames=n, side=48)) for n in (3, 6, 5)
    ]
    lengths = []

    class Lengths(torch.nn.Module):
        def forward(self, clip):
            lengths.append(clip.shape[2])
            return clip.mean(dim=(2, 3, 4))[:, :2]

    spec = replace(network().spec, sampling="all", stride=1)
    scores = score(Lengths(), rows_of(paths, [0, 1, 0]), spec, accelerator, num_classes=2)
    assert (lengths, scores.missing) == ([3, 6, 5], [])


def test_half_precision_stops_at_the_logits(files, accelerator):
    model, views = network(), torch.randint(0, 256, (2, 3, 4, 32, 32, 3), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        values = probabilities_of(model, views, model.spec)
    assert values.dtype == torch.float64 and not values.requires_grad
    assert (values.sum(dim=1) - 1).abs().max() < 1e-12
    exact = probabilities_of(model, views, model.spec)
    assert 0 < (values - exact).abs().max() < 0.05


def test_predict(files, motion_set, tmp_path):
    model = network()
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
    with pytest.raises(UsageError, match="topk"):
        model.predict(file, topk=0)
    folder = checkpoint.save_model(model, tmp_path / "model")
    both = vidinit.predict(folder, [file, tmp_path / "bad.mp4"])
    assert both[0].classes == best and both[0].error is None
    assert both[1].classes == [] and "empty" in both[1].error


def test_predictions_follow_the_kind_of_the_model(files, tmp_path):
    model = network()
    shared = dict(predict_file(model, files[0]))
    ClassifyTask(model, kind="multi").eval()
    folder = checkpoint.save_model(model, tmp_path / "multi")
    each = dict(vidinit.predict(folder, files[0])[0].classes)
    odds = {name: p / (1 - p) for name, p in each.items()}
    assert odds["left"] / (odds["left"] + odds["right"]) == pytest.approx(shared["left"])
    assert sum(each.values()) != pytest.approx(1, abs=1e-3)
    folder = checkpoint.save_model(model, tmp_path / "pair", **pair_of(model).save_options())
    actions = vidinit.predict(folder, files[0], topk=10)[0].classes
    assert len(actions) == 6 and sum(p for _, p in actions) == pytest.approx(1)
    verbs = {v: sum(p for name, p in actions if name.split()[0] == v) for v in shared}
    assert verbs == pytest.approx(shared)
    nouns = dict(vidinit.load(folder, head="noun").predict(files[0]))
    verb, noun = actions[0][0].split()
    assert noun == max(nouns, key=nouns.__getitem__)
    assert actions[0][1] == pytest.approx(shared[verb] * nouns[noun])


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
