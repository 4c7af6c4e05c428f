"""Sets of runs: splits and their means, one that goes on, and what is refused."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import SMALL, moving_bar, write_video

import vidinit
from vidinit.checkpoint import read_card
from vidinit.errors import UsageError
from vidinit.pipelines.run_set import RunSet, _told, mean_and_deviation, runs_in, set_page

MODEL = "s3d-test_resnet"  # small
FEW = [*SMALL, "train.freeze=trunk"]


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HMDB51's lists with two splits of six videos: in split k, k of a class are for testing."""
    root = tmp_path_factory.mktemp("hmdb")
    for name, step in (("left", -4), ("right", 4)):
        for number in range(3):
            write_video(root / "videos" / name / f"{number}.avi", moving_bar(step, number))
        for split in (1, 2):
            rows = [f"{n}.avi {2 if n < split else 1}" for n in range(3)]
            file = root / "splits" / f"{name}_test_split{split}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join(rows))
    return root


def train(lists: Path, out: Path, *more: str, **options: Any) -> dict[str, Any]:
    return vidinit.finetune(
        MODEL,
        data=lists / "splits",
        root=lists / "videos",
        out=out,
        epochs=1,
        overrides=[*FEW, "data.split=all", *more],
        **options,
    )


def score(lists: Path, model: Path | str, out: Path, *more: str, **options: Any) -> dict[str, Any]:
    settings = [*SMALL, "eval.resamples=10", *(more or ("data.split=all",))]
    data = {"data": lists / "splits", "root": lists / "videos"}
    return vidinit.evaluate(model, out=out, overrides=settings, **{**data, **options})


def test_one_model_on_all_splits(lists: Path, tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "scored"
    told = score(lists, MODEL, out)
    assert [one["run"] for one in told["runs"]] == ["split-1", "split-2"]
    assert [one["result"]["videos"] for one in told["runs"]] == [2, 4], "each its test list"
    each = [json.loads((out / f"split-{n}" / "result.json").read_text()) for n in (1, 2)]
    top1 = [one["top1"] for one in each]
    assert told["top1"] == told["mean"]["top1"] == pytest.approx(statistics.fmean(top1), abs=1e-6)
    assert told["deviation"]["top1"] == pytest.approx(statistics.stdev(top1), abs=1e-6)
    assert (told["videos"], told["missing"]) == (6, [])
    assert json.loads((out / "result.json").read_text()) == told
    page = (out / "report.html").read_text()
    assert "standard deviation" in page and 'href="split-2/report.html"' in page

    # What is finished stays, what is not is done again.
    before = (out / "split-1" / "report.html").stat().st_mtime_ns
    (out / "split-2" / "report.html").unlink()
    capfd.readouterr()
    assert score(lists, MODEL, out, resume=True)["mean"] == told["mean"]
    assert (out / "split-1" / "report.html").stat().st_mtime_ns == before
    assert (out / "split-2" / "report.html").is_file()
    said = capfd.readouterr().err
    assert "split-1 is finished" in said and "split-2 is finished" not in said
    with pytest.raises(UsageError, match=r"was started with eval\.bins=15, now it is 9"):
        score(lists, MODEL, out, "data.split=all", "eval.bins=9", resume=True)
    with pytest.raises(UsageError, match="that --out replaces"):
        score(lists, MODEL, out, against=out, overwrite=True)


def test_a_set_whose_first_run_is_refused_leaves_an_empty_folder(
    lists: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(UsageError, match="does not exist"):
        vidinit.evaluate(
            MODEL,
            data=lists / "splits",
            root=tmp_path / "nowhere",
            out=out,
            overrides=["data.split=all"],
        )
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_a_training_of_each_split_and_its_evaluation(lists: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    told = train(lists, out)
    assert [one["result"]["videos"] for one in told["runs"]] == [4, 2]
    assert (told["videos"], told["steps"]) == (6, 2)
    kept = [read_card(out / f"split-{n}" / "model").lineage[-1]["top1"] for n in (1, 2)]
    assert [one["figures"]["top1"] for one in told["runs"]] == kept
    assert told["mean"]["top1"] == pytest.approx(statistics.fmean(kept), abs=1e-6)
    assert train(lists, out, resume=True) == told
    with pytest.raises(UsageError, match="was started with train"):
        train(lists, out, "train.lr=0.5", resume=True)

    result = score(lists, out, tmp_path / "scored")
    models = [one["result"]["out"] for one in result["runs"]]
    configs = [yaml.safe_load((Path(one) / "config.yaml").read_text()) for one in models]
    assert [Path(one["model"]).name for one in configs] == ["split-1", "split-2"]
    with pytest.raises(UsageError, match="holds a model of each split"):
        score(lists, out, tmp_path / "no", "data.split=1")
    with pytest.raises(UsageError, match="was trained on one split"):
        score(lists, out / "split-1", tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_a_set_that_fails_in_the_middle_goes_on(lists: Path, tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "run"
    whole = train(lists, tmp_path / "whole")
    hidden = lists / "splits" / "right_test_split2.txt"
    text = hidden.read_text()
    try:
        hidden.write_text("not a line of these lists")
        with pytest.raises(vidinit.errors.DataError):
            train(lists, out)
        assert "1 of 2 runs are finished; --resume goes on" in capfd.readouterr().err
        assert runs_in(out) is None, "no result yet"
    finally:
        hidden.write_text(text)
    told = train(lists, out, resume=True)
    assert told["mean"] == whole["mean"] and told["deviation"] == whole["deviation"]


@pytest.mark.slow
def test_sets_are_compared_run_by_run(lists: Path, tmp_path: Path) -> None:
    first = score(lists, MODEL, tmp_path / "a")
    second = score(lists, MODEL, tmp_path / "b", seed=1, against=tmp_path / "a")
    gains = [one["result"]["against"]["metrics"]["top1"]["gain"] for one in second["runs"]]
    ours, theirs = ([one["figures"]["top1"] for one in told["runs"]] for told in (second, first))
    assert gains == pytest.approx([a - b for a, b in zip(ours, theirs, strict=True)], abs=1e-6)


def test_mean_and_deviation_are_those_of_a_sample() -> None:
    told = mean_and_deviation([{"top1": 0.1, "a": 1}, {"top1": 0.2}, {"top1": 0.6}])
    assert told["mean"] == {"top1": 0.3}
    assert told["deviation"] == {"top1": pytest.approx((0.14 / 2) ** 0.5, abs=1e-6)}
    assert told["range"] == {"top1": [0.1, 0.6]}
    one = {"mean": {"top1": 0.4}, "deviation": {}, "range": {"top1": [0.4, 0.4]}}
    assert mean_and_deviation([{"top1": 0.4}]) == one


def test_a_best_score_is_averaged_over_repetitions_alone() -> None:
    """Subsets and shares are scored on different things, or are different experiments."""

    def told(repeats: bool) -> dict[str, Any]:
        runs = RunSet("sources", {}, [1, 2], lambda one: {}, lambda all: {"best": 0.5}, repeats)
        return _told("out", runs, {"a": {}, "b": {}})

    assert told(True)["best"] == 0.5 and told(False)["best"] is None


def test_a_page_draws_what_varies_by_a_number() -> None:
    runs = [
        {"run": f"keep-{x:g}", "value": x, "figures": {"top1": y}}
        for x, y in ((0.5, 0.4), (1.0, 0.3), (0.3, 0.2))
    ]
    told = {"varies": "share", "runs": runs}
    folders = {one["run"]: one["run"] for one in runs}
    page = set_page("t", told, folders)
    assert "Top-1 accuracy over share" in page and page.count("<svg") == 1
    repeated = {**told, "mean": {"top1": 0.3}, "deviation": {"top1": 0.1}}
    page = set_page("t", repeated, folders)
    assert "<svg" not in page and "0.300 on the mean of" in page[: page.index("<h2>")]
    assert "standard deviation is 0.100" in page
    names = [{**one, "value": [one["run"]]} for one in runs]
    spaced = {name: name.replace("-", " ") for name in folders}
    page = set_page("t", {"varies": "sources", "runs": names}, spaced)
    assert "<svg" not in page and 'href="keep%200.5/report.html"' in page
