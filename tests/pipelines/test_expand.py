"""Configurations that stand for several runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidinit.data.sources import split_numbers
from vidinit.errors import UsageError
from vidinit.pipelines.cotrain.settings import CotrainConfig
from vidinit.pipelines.cotrain.subsets import subsets
from vidinit.pipelines.distill.settings import DistillConfig
from vidinit.pipelines.distill.shares import SHARE, shares
from vidinit.pipelines.expand import at_split, expand, of_one_split
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.run_set import RunSet, runs_in

OPTIONS: dict[str, Any] = {"figures": lambda result: {}, "summary": lambda results: {}}


def ucf(root: Path, numbers: tuple[int, ...]) -> str:
    root.mkdir(exist_ok=True, parents=True)
    (root / "classInd.txt").write_text("1 Archery\n")
    for number in numbers:
        for part in ("train", "test"):
            (root / f"{part}list{number:02d}.txt").write_text("Archery/v_a.avi 1\n")
    return str(root)


def config(**data: Any) -> FinetuneConfig:
    return FinetuneConfig(model="s3d-test_resnet", data={"split": "all", **data})  # type: ignore[arg-type]


def made_set(root: Path, varies: str, values: dict[str, Any]) -> str:
    """The folder of a finished set, as far as it is looked at."""
    runs = [{"run": name, "value": value, "figures": {}} for name, value in values.items()]
    root.mkdir()
    (root / "result.json").write_text(json.dumps({"varies": varies, "runs": runs}))
    (root / "report.html").touch()
    return str(root)


def test_splits_are_counted_in_lists_and_in_paths(tmp_path: Path) -> None:
    assert split_numbers(ucf(tmp_path / "ucf", (1, 2, 3))) == [1, 2, 3]
    assert split_numbers(str(tmp_path)) == [1, 2, 3], "in the folder above, as data is read"
    for name in ("wave", "run"):
        for number in (1, 2):
            (tmp_path / f"{name}_test_split{number}.txt").touch()
    assert split_numbers(str(tmp_path)) == [1, 2]
    for number in (1, 2, 4):
        (tmp_path / f"train_split_{number}.csv").touch()
    place = str(tmp_path / "train_split_{split}.csv")
    assert split_numbers(place) == [1, 2], "as far as they go without a gap"
    with pytest.raises(UsageError, match=r"val_1\.csv does not exist"):
        split_numbers(str(tmp_path / "val_{split}.csv"))
    with pytest.raises(UsageError, match="has no splits that repeat one another"):
        split_numbers(str(tmp_path / "train_split_1.csv"))


def test_a_run_of_each_split(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for number in (1, 2):
            (tmp_path / f"{part}{number}.txt").touch()
    places = {part: str(tmp_path / f"{part}{{split}}.txt") for part in ("train", "val")}
    runs = expand(config(**places), **OPTIONS)
    assert runs is not None and runs.repeats and list(runs.values) == [1, 2]
    second = runs.configs["split-2"].data
    assert second.split == 2 and second.train == str(tmp_path / "train2.txt")
    assert second.val == str(tmp_path / "val2.txt")

    one = config(**{**places, "split": 2})
    assert expand(one, **OPTIONS) is None
    assert of_one_split(one).data.train == second.train
    assert at_split(config(train=["a{split}", "b"]), 3).data.train == ["a3", "b"]
    other = str(tmp_path / "train1.txt")
    (tmp_path / "val3.txt").touch()
    with pytest.raises(UsageError, match=r"has the splits 1, 2, .* has 1, 2, 3"):
        expand(config(**places), **OPTIONS)
    with pytest.raises(UsageError, match="no splits that repeat"):
        expand(config(train=other), **OPTIONS)
    with pytest.raises(UsageError, match="needs the data"):
        expand(config(), **OPTIONS)


def test_each_split_goes_on_with_the_model_of_its_own(tmp_path: Path) -> None:
    data = ucf(tmp_path / "lists", (1, 2))
    model = made_set(tmp_path / "set", "split", {"split-1": 1, "split-2": 2})
    runs = expand(FinetuneConfig(model=model, data={"split": "all", "train": data}), **OPTIONS)  # type: ignore[arg-type]
    assert runs is not None
    assert [one.model for one in runs.configs.values()] == [f"{model}/split-{n}" for n in (1, 2)]
    third = FinetuneConfig(model=model, data={"split": "all", "train": ucf(tmp_path / "b", (1,))})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one for each of the splits 1"):
        expand(third, **OPTIONS)
    with pytest.raises(UsageError, match=r"add data\.split=all"):
        expand(FinetuneConfig(model=model, data={"train": data}), **OPTIONS)  # type: ignore[arg-type]


def test_a_set_as_model_is_a_run_with_each(tmp_path: Path) -> None:
    model = made_set(tmp_path / "kept", SHARE, {"keep-0.3": 0.3, "keep-1": 1})
    runs = expand(FinetuneConfig(model=model, data={"train": "x"}), **OPTIONS)  # type: ignore[arg-type]
    assert runs is not None and not runs.repeats
    assert (runs.varies, list(runs.values)) == (SHARE, [0.3, 1])
    assert runs.configs["keep-1"].model == f"{model}/keep-1"
    assert [one["folder"] for one in runs_in(model) or []] == [
        f"{model}/{name}" for name in ("keep-0.3", "keep-1")
    ]
    (tmp_path / "kept" / "report.html").unlink()
    assert runs_in(model) is None, "it is not finished"


def test_shares_are_a_run_each() -> None:
    built = DistillConfig(distill={"keep": "0.3,1"})  # type: ignore[arg-type]
    assert built.distill.keep == [0.3, 1.0]
    runs = shares(built, built.distill.keep)
    assert [one.distill.keep for one in _typed(runs, DistillConfig)] == [0.3, 1.0]
    assert list(runs.configs) == ["keep-0.3", "keep-1"]
    with pytest.raises(UsageError, match="comes twice"):
        shares(built, [0.5, 0.5])
    own = DistillConfig(distill={"teachers": ["imagenet,keep=0.5"], "keep": "0.3,1"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has a share of its own"):
        shares(own, [0.3, 1])
    for wrong in ("0.3,0", "0.3,x", "0.3,1.5"):
        with pytest.raises(ValueError, match="shares are above 0"):
            DistillConfig(distill={"keep": wrong})  # type: ignore[arg-type]


def test_subsets_have_a_video_source_and_keep_their_order() -> None:
    sources = [{"name": n, "data": n} for n in ("k400", "ssv2")]
    images = {"name": "in1k", "data": "i", "kind": "image", "share": 0.2}
    built = CotrainConfig(model="r3d50", cotrain={"ablate": True}, sources=[*sources, images])  # type: ignore[arg-type]
    runs = subsets(built)
    assert list(runs.configs) == [
        "k400", "ssv2", "k400+ssv2", "k400+in1k", "ssv2+in1k", "k400+ssv2+in1k",
    ]  # fmt: skip
    last = _typed(runs, CotrainConfig)[-1]
    assert not last.cotrain.ablate and last.sources == built.sources
    with pytest.raises(UsageError, match="there are not two"):
        subsets(CotrainConfig(model="r3d50", sources=sources[:1]))  # type: ignore[arg-type]
    twice = CotrainConfig(model="r3d50", sources=[sources[0], sources[0]])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="two sources are called"):
        subsets(twice)


def _typed(runs: RunSet, kind: type) -> list[Any]:
    configs = list(runs.configs.values())
    assert all(isinstance(one, kind) for one in configs)
    return configs
