from __future__ import annotations

from pathlib import Path

import pytest

from vidinit.config.build import build
from vidinit.data.rows import Row, Rows
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.shared.skewed_classes import (
    check_class_weights,
    class_counts,
    class_groups,
    class_weights,
    say_skew,
)


def single(*counts: int) -> Rows:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    names = tuple("abcdefgh"[: len(counts)])
    return Rows(tuple(Row(f"{i}.mp4", label) for i, label in enumerate(labels)), names)


MULTI = Rows(
    (Row("0", (0, 1)), Row("1", (0,)), Row("2", ()), Row("3", (0, 2))), ("a", "b", "c"), "multi"
)
PAIRS = Rows(
    (Row("0", (0, 1)), Row("1", (0, 0)), Row("2", (1, 0))), ("cut", "mix"), "pair", ("cup", "pan")
)


def test_clips_of_each_class():
    assert class_counts(single(3, 0, 2)) == [[3, 0, 2]]
    assert class_counts(MULTI) == [[3, 1, 1]]
    assert class_counts(PAIRS) == [[2, 1], [2, 1]]
    assert class_groups(single(3, 0, 2)) == [[0, 1, 2], [3, 4]]
    assert class_groups(MULTI) == [[0, 1, 3], [0], [3], [2]], "clips of no class are drawn, too"
    assert class_groups(PAIRS) == [[0, 1], [2]], "by verb"
    with pytest.raises(UsageError, match=r"data.balance=classes goes by labels"):
        class_groups(Rows((Row("a"),)))


def test_automatic_weights_are_inverse_frequencies():
    """n / (K n_c), as scikit-learn's class_weight="balanced"; the mean over the clips is 1."""
    assert class_weights("auto", single(6, 3, 1), "x") == [[10 / 18, 10 / 9, 10 / 3]]
    (weights,) = class_weights("auto", single(1900, 12, 0, 88), "x") or []
    assert weights == [2000 / (3 * 1900), 2000 / (3 * 12), 1.0, 2000 / (3 * 88)]
    mean = (1900 * weights[0] + 12 * weights[1] + 88 * weights[3]) / 2000
    assert mean == pytest.approx(1)
    assert class_weights("auto", MULTI, "x") == [[5 / 9, 5 / 3, 5 / 3]], "5 labels"
    assert class_weights("auto", PAIRS, "x") == [[3 / 4, 3 / 2], [3 / 4, 3 / 2]]
    assert class_weights("none", single(6, 3), "x") is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.yaml", "b: 2\na: 0.5\nc: 0\n"),
        ("w.yml", "{a: 0.5, b: 2e0, c: 0}"),
        ("w.json", '{"c": 0, "a": 0.5, "b": 2}'),
        ("w.csv", "class,weight\na,0.5\nb,2\nc,0\n"),
        ("w.csv", 'c,0\n"b", 2\na,.5\n'),
    ],
)
def test_weights_of_a_file(tmp_path: Path, capsys, name: str, text: str):
    (tmp_path / name).write_text(text)
    assert class_weights(str(tmp_path / name), single(3, 1, 1), "mine") == [[0.5, 2.0, 0.0]]
    assert "mine: class weights from 0 ('c') to 2 ('b')" in capsys.readouterr().err


def test_names_that_yaml_takes_for_something_else(tmp_path: Path):
    file = tmp_path / "w.yaml"
    file.write_text("no: 2\n007: 1\nnull: 3\n")
    rows = Rows((Row("a", 0),), ("007", "no", "null"))
    assert class_weights(str(file), rows, "x") == [[1.0, 2.0, 3.0]]


def test_weights_of_verbs_and_nouns(tmp_path: Path):
    file = tmp_path / "w.yaml"
    file.write_text("verb:\n  cut: 1\n  mix: 2\nnoun:\n  cup: 3\n  pan: 4\n")
    assert class_weights(str(file), PAIRS, "x") == [[1.0, 2.0], [3.0, 4.0]]
    other = tmp_path / "w.json"
    other.write_text('{"noun": {"cup": 3, "pan": 4}, "verb": {"mix": 2, "cut": 1}}')
    assert class_weights(str(other), PAIRS, "x") == [[1.0, 2.0], [3.0, 4.0]]
    file.write_text("verb:\n  cut: 1\n  mix: 2\nnoun:\n  cup: 3\n  pot: 4\n")
    with pytest.raises(DataError, match=r"w.yaml:6: the data has no noun 'pot'"):
        class_weights(str(file), PAIRS, "x")
    for name, text in (("w.yaml", "cut: 1\nmix: 2\n"), ("w.csv", "cut,1\nmix,2\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="has to weigh verbs and nouns; write it as yaml"):
            class_weights(str(tmp_path / name), PAIRS, "x")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.yaml", "a: 1\nb: 2\n", r"w.yaml has no weight for 1 of 3 classes: 'c'; give every"),
        ("w.yaml", "a: 1\nb: 2\nc: 1\nrun: 1\n", r"w.yaml:4: the data has no class 'run'"),
        ("w.yaml", "a: 1\nb: 2\nA: 1\n", r"w.yaml:3: the data has no class 'A'"),
        ("w.yaml", "a: 1\nb: 2\nb: 1\nc: 1\n", r"w.yaml:3: class 'b' stands twice"),
        ("w.json", '{"a": 1, "a": 1}', r"w.json: class 'a' stands twice"),
        ("w.yaml", "a: 1\nb: -2\nc: 1\n", r"w.yaml:2: weight of class 'b' is -2; weights are num"),
        ("w.yaml", "a: 1\nb: .nan\nc: 1\n", r"weight of class 'b' is .nan"),
        ("w.json", '{"a": NaN, "b": 1, "c": 1}', r"weight of class 'a' is nan"),
        ("w.csv", "a,1\nb,inf\nc,1\n", r"w.csv:2: weight of class 'b' is inf"),
        ("w.json", '{"a": true, "b": 1, "c": 1}', r"weight of class 'a' is True"),
        ("w.yaml", "a: [1]\nb: 1\nc: 1\n", r"w.yaml:1: weight of class 'a' is no number"),
        ("w.yaml", "a:\nb: 1\nc: 1\n", r"w.yaml:1: weight of class 'a' is ; weights"),
        ("w.csv", "a,1\nb,many\nc,1\n", r"w.csv:2: weight of class 'b' is many"),
        ("w.yaml", "a: 0\nb: 0.0\nc: 0\n", r"w.yaml: all weights are 0"),
        ("w.csv", "a,1,2\n", r"w.csv:1: 3 columns; expected name,weight"),
        ("w.json", "[1, 2, 3]", r"w.json holds no weights; expected a yaml or json object"),
        ("w.yaml", "", r"w.yaml holds no weights"),
        ("w.json", "{", r"w.json is no valid json; expected"),
        ("w.yaml", "a: [", r"w.yaml is no valid yaml; expected"),
        ("w.csv", "", r"w.csv has no weight for 3 of 3 classes: 'a', 'b', 'c'"),
    ],
)
def test_files_that_do_not_weigh_the_classes(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        class_weights(str(tmp_path / name), single(3, 1, 1), "x")


def test_a_file_that_is_not_there_is_told_at_once(tmp_path: Path):
    def check(value: str) -> None:
        check_class_weights(
            build(FinetuneConfig, overrides=["model=r3d50", f"train.class_weights={value}"])
        )

    with pytest.raises(UsageError, match=r"train.class_weights=w.yaml: there is no such file; wri"):
        check("w.yaml")
    with pytest.raises(UsageError, match=r"did you mean 'auto'"):
        check("atuo")
    (tmp_path / "w.yaml").touch()
    for value in ("auto", "none", str(tmp_path / "w.yaml")):
        check(value)


def test_skew_is_said_from_ten_to_one_on(capsys):
    settings = {"balance": "none", "class_weights": "none"}
    assert say_skew(single(19, 0, 2, 7), "x", **settings) == (
        {"rarest": 2, "most_frequent": 19},
        [],
    )
    assert capsys.readouterr().err == ""
    extremes, (note,) = say_skew(single(1900, 12, 0), "x", **settings)
    assert extremes == {"rarest": 12, "most_frequent": 1900}
    assert note == (
        "x: rarest class 'b' 12 clips, most frequent 'a' 1,900; data.balance=classes draws them "
        "equally often, train.class_weights=auto weighs them in the loss"
    )
    assert capsys.readouterr().err == f"note: {note}\n"
    _, (note,) = say_skew(single(10, 1), "x", balance="classes", class_weights="none")
    assert note.endswith("'b' 1 clip, most frequent 'a' 10; data.balance=classes draws them equally"
                         " often")  # fmt: skip
    _, (note,) = say_skew(single(10, 1), "x", balance="none", class_weights="auto")
    assert note.endswith("; train.class_weights=auto weighs them in the loss")
    pairs = PAIRS.of([Row(str(i), (i % 2, int(i == 0))) for i in range(20)])
    extremes, (note,) = say_skew(pairs, "x", **settings)
    assert extremes == {"rarest": 10, "most_frequent": 10}
    assert note.startswith("x: rarest noun 'pan' 1 clip, most frequent 'cup' 19; train.class_weig")
