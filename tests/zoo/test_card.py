"""model.yaml is read in one place, and every fault in it is told with its file and key."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vidinit.errors import UsageError
from vidinit.zoo import card
from vidinit.zoo.spec import ClipSpec

CLIP: dict[str, Any] = {
    "frames": 4,
    "stride": 1,
    "size": 32,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bicubic",
    "crop_pct": 0.95,
    "sampling": "dense",
    "short": "loop",
}
WHOLE: dict[str, Any] = {
    "format": 1,
    "vidinit": "0.1.0",
    "name": "s3d-mobilenetv2_050",
    "options": {},
    "num_classes": 2,
    "clip": CLIP,
    "classes": ["run", "walk"],
    "kind": "single",
    "still": "center",
    "lineage": [{"step": "convert", "exact": True, "max_difference": 1e-6}],
    "head_classes": {"mine": ["run", "walk"], "other": ["walk"]},
    "merged": {"other": {"head": "mine", "outputs": [1]}},
    "source_clips": {"mine": CLIP, "other": CLIP},
}
REQUIRED = ("format", "vidinit", "name", "options", "num_classes", "clip", "classes", "lineage")
OPTIONAL = ("kind", "still", "head_classes", "merged", "source_clips")


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in copy.deepcopy(WHOLE).items() if key not in keys}


def changed(key: str, value: Any) -> dict[str, Any]:
    """The whole card with another value at a dotted key."""
    found = copy.deepcopy(WHOLE)
    *parts, last = key.split(".")
    place: Any = found
    for part in parts:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[int(last) if isinstance(place, list) else last] = value
    return found


def read(tmp_path: Path, text: str | bytes) -> card.Card:
    file = tmp_path / "model.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return card.read(file)


def refused(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert str(tmp_path / "model.yaml") in message and "\n" not in message
    assert len(message) < 600
    return message


def test_a_whole_card_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    found = read(tmp_path, yaml.safe_dump(WHOLE, sort_keys=False))
    assert found.clip == ClipSpec.from_dict(CLIP)
    assert (found.name, found.classes, found.num_classes) == (
        "s3d-mobilenetv2_050",
        ["run", "walk"],
        2,
    )
    assert found.merged is not None and found.merged["other"].outputs == [1]
    assert found.as_dict() == WHOLE and list(found.as_dict()) == list(WHOLE)


def test_a_card_of_the_first_version(tmp_path: Path) -> None:
    old = without("kind", "still", "head_classes", "merged", "source_clips")
    for key in ("sampling", "short"):
        del old["clip"][key]
    found = read(tmp_path, yaml.safe_dump(old))
    assert (found.kind, found.still, found.clip.sampling, found.clip.short) == (
        *("single", "center"),
        *("dense", "loop"),
    )
    assert (found.pooler, found.head_classes, found.conversion) == (None, None, None)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_key_that_is_missing_is_named(key: str, tmp_path: Path) -> None:
    assert f"no {key} is given" in refused(tmp_path, yaml.safe_dump(without(key)))


@pytest.mark.parametrize("key", ["frames", "stride", "size", "mean", "std", "interpolation"])
def test_no_default_stands_for_a_clip_that_was_cut_off(key: str, tmp_path: Path) -> None:
    found = copy.deepcopy(WHOLE)
    del found["clip"][key]
    assert f"no clip.{key} is given" in refused(tmp_path, yaml.safe_dump(found))


FAULTS = [
    ("clip.frames", 0, "clip.frames: should be greater than or equal to 1, not 0"),
    ("clip.frames", "4", "clip.frames: should be a whole number, not '4'"),
    ("clip.frames", 2.5, "clip.frames: should be a whole number, not 2.5"),
    ("clip.frames", True, "clip.frames: should be a whole number, not True"),
    ("clip.frames", 10**30, "clip.frames: should be less than or equal to 100000"),
    ("clip.size", 0, "clip.size: should be greater than or equal to 1, not 0"),
    ("clip.mean", [0.4, 0.5], "clip.mean: 2 values for 3 channels"),
    ("clip.mean", [0.4, float("nan"), 0.5], "clip.mean.1: should be a finite number, not nan"),
    ("clip.mean", 0.4, "clip.mean: should be a list, not 0.4"),
    ("clip.std", [0.0, 0.2, 0.2], "clip.std.0: should be greater than 0, not 0"),
    ("clip.std", ["a", 0.2, 0.2], "clip.std.0: should be a number, not 'a'"),
    ("clip.interpolation", "evil", "clip.interpolation: should be 'bicubic' or 'bilinear', not"),
    ("clip.crop_pct", 0, "clip.crop_pct: should be greater than 0"),
    ("clip.sampling", None, "clip.sampling: should be 'dense', 'uniform' or 'all', not null"),
    ("clip.siez", 3, "unknown key clip.siez (did you mean 'size'"),
    ("clip.flow", {"method": "raft", "bound": 0.0}, "clip.flow.bound: should be above 0"),
    ("clip.flow", {"method": "x"}, "clip.flow.method: should be 'dis' or 'raft', not 'x'"),
    ("clip", None, "clip: should be keys and values, not null"),
    ("clip", [1, 2], "clip: should be keys and values, not [1, 2]"),
    ("clas", ["a"], "unknown key clas (did you mean 'classes'?)"),
    ("classes", ["run"], "classes: 1 name for 2 outputs"),
    ("classes", list("abcdefgh"), "classes: 8 names for 2 outputs"),
    ("classes", ["run", 2], "classes.1: should be text, not 2"),
    ("classes", "run", "classes: should be a list, not 'run'"),
    ("num_classes", -1, "num_classes: should be greater than or equal to 0, not -1"),
    ("kind", "zzz", "kind: should be 'single', 'multi' or 'pair', not 'zzz'"),
    ("kind", "pair", "head_classes: no 'verb' is given"),
    ("still", 1, "still: should be 'center' or 'sum', not 1"),
    ("name", "s3d", None),
    ("name", "zzz", "name: unknown model 'zzz'"),
    ("name", 5, "name: should be text, not 5"),
    ("name", "", "name: should not be empty"),
    ("options", [], "options: should be keys and values, not []"),
    ("options", {"in_channels": 0}, "options.in_channels: should be a whole number above 0, not 0"),
    ("options", {"in_channels": 2}, "clip.mean: 3 values for 2 channels"),
    ("options", {"network": 3}, "options.network: should be a map of keys and values, not 3"),
    (
        "options",
        {"network": {"checkpoint_path": "evil.pth"}},
        "options.network.checkpoint_path: would read or fetch files",
    ),
    ("lineage", "x", "lineage: should be a list, not 'x'"),
    ("lineage", [{}], "lineage.0: should not be empty"),
    ("lineage", [{"of": "x"}], "lineage.0.step: should be text, not null"),
    ("lineage.0.max_difference", "x", "lineage.0.max_difference: should be a number, not 'x'"),
    ("pooler", {"blocks": 0, "heads": 1}, "pooler.blocks: should be greater than or equal to 1"),
    ("pooler", {"blocks": 1}, "pooler.heads: is not given, which form coca has"),
    ("pooler", {"heads": 1}, "pooler.blocks: is not given, which form coca has"),
    ("pooler", {"form": "readout", "heads": 1, "blocks": 2}, "is nothing that form readout has"),
    ("pooler", {"form": "x", "heads": 1}, "pooler.form: should be 'coca', 'vjepa2', 'readout'"),
    ("tower", {"name": "a", "weights": "hub"}, "no tower.sha256 is given"),
    ("tower", {"name": "a", "weights": "", "sha256": "0"}, "tower.weights: should not be empty"),
    ("merged", {"other": {"head": "mine", "outputs": [-1]}}, "merged.other.outputs.0: should be"),
    (
        "merged",
        {"other": {"head": "mine", "outputs": [0, 1]}},
        "merged.other.outputs: 2 outputs for 1 class",
    ),
    (
        "merged",
        {"third": {"head": "mine", "outputs": [0]}},
        "merged.third: head_classes has no such source",
    ),
    ("source_clips", {"third": CLIP}, "source_clips.third: head_classes has no such source"),
    ("source_clips.other.frames", 0, "source_clips.other.frames: should be greater than or equal"),
    ("source_clips.other", {}, "no source_clips.other.frames is given"),
    ("head_classes", {"mine": 3}, "head_classes.mine: should be a list, not 3"),
    ("conversion", [{"stage": "stem"}], "no conversion.0.rule is given"),
    ("format", 2, "it is damaged or newer (format 2)"),
    ("format", "x", "format: should be a whole number, not 'x'"),
]


@pytest.mark.parametrize(("key", "value", "words"), FAULTS)
def test_a_wrong_value_is_told_with_its_key(
    key: str, value: Any, words: str | None, tmp_path: Path
) -> None:
    text = yaml.safe_dump(changed(key, value), sort_keys=False)
    if words is None:
        read(tmp_path, text)
    else:
        assert words in refused(tmp_path, text)


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    wrong = changed("kind", "zzz")
    wrong["clip"]["frames"] = 0
    del wrong["lineage"]
    message = refused(tmp_path, yaml.safe_dump(wrong))
    assert all(part in message for part in ("kind: ", "clip.frames: ", "no lineage is given"))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS = {
    "empty": ("", "should hold keys and values, not null"),
    "list": ("[1, 2]", "should hold keys and values, not [1, 2]"),
    "binary": (b"\xff\xfe\x00\x01garbage", "cannot read"),
    "control": (b"format: 1\x00\n", "cannot read"),
    "cut": ("format: 1\nclasses: [a, 'b", "cannot read"),
    "deep": ("[" * 5000, "nested too deep"),
    "bomb": (BOMB, "holds more than 2,000,000 values"),
    "itself": ("format: 1\nx: &x [*x]", "x.0 holds itself"),
    "root": ("&a\nformat: 1\nx: *a", "holds itself"),
    "key": ("format: 1\n[1, 2]: 3", "cannot read"),
    "date": ("format: 1\nkind: 2020-01-01", "kind: should be text, not a date; quote it"),
    "bytes": ("format: 1\nkind: !!binary aGVsbG8=", "kind: should be text or a number, not bytes"),
    "half": ('format: 1\nkind: "\\ud800"', "half a character"),
    "digits": ("format: " + "9" * 5000, "cannot read"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_no_card(name: str, tmp_path: Path) -> None:
    text, words = TEXTS[name]
    assert words in refused(tmp_path, text)


def test_a_file_of_many_megabytes_is_not_parsed(tmp_path: Path) -> None:
    assert "17 MB are no description" in refused(tmp_path, b"#" * (17 * 10**6))


def test_nothing_in_a_card_is_run(tmp_path: Path) -> None:
    """Tags of Python are refused, and reading opens the one file and imports nothing."""
    mine = tmp_path / "ran"
    for tag in ("object/apply:os.system", "object/new:os.system", "name:os.system"):
        text = f'format: !!python/{tag} ["touch {mine}"]'
        assert "cannot read" in refused(tmp_path, text)
    assert not mine.exists()
    seen: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in (
            "open",
            "exec",
            "os.system",
            "subprocess.Popen",
            "pickle.find_class",
        ):
            seen.append(f"{event} {arguments[0] if arguments else ''}")

    text = yaml.safe_dump(WHOLE)
    (tmp_path / "model.yaml").write_text(text)
    sys.addaudithook(watch)
    try:
        card.read(tmp_path / "model.yaml")
    finally:
        watching = False
    assert seen == [f"open {tmp_path / 'model.yaml'}"]


def test_names_that_are_not_utf_8_stay_what_they_are(tmp_path: Path) -> None:
    names = ["walk\udcff", "\udc80💀\udcfe"]
    named = {**without("head_classes", "merged", "source_clips"), "classes": names}
    named["lineage"] = [{"step": "train", "data": {"\udcff": "a\udcff"}}]
    named["head_classes"] = {"\udcff": names}
    found = read(tmp_path, yaml.safe_dump(named))
    assert found.classes == names and found.head_classes == {"\udcff": names}
    assert found.lineage == named["lineage"]


def test_aliases_of_folders_that_repeat_lists(tmp_path: Path) -> None:
    names = ["run", "walk"]
    shared = {**without("classes", "head_classes"), "classes": names}
    shared["head_classes"] = {"mine": names, "other": ["walk"]}
    text = yaml.safe_dump(shared)
    assert "&id" in text and read(tmp_path, text).head_classes == shared["head_classes"]
