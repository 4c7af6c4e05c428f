"""`docs/papers.md`: its commands resolve, its recipes have its figures, its counts are counted.

The quick tests parse each command, build its configuration, and find its names; the slow one takes
a step of each training as `--dry-run` does, on random clips.
"""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import timm
import typer
from published import FIGURES
from vidinit.commands import app

import vidinit
from vidinit.config.build import build
from vidinit.config.presets import find_preset, list_presets
from vidinit.pipelines.cotrain.api import parse_source
from vidinit.pipelines.distill.settings import parse_teacher
from vidinit.pipelines.registry import config_classes
from vidinit.zoo.names import find_entry, find_target

CONFIGS = config_classes()

PAGE = Path(__file__).parents[1] / "docs" / "papers.md"
TEXT = PAGE.read_text(encoding="utf-8")
PROGRAM = typer.main.get_command(app)
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| row", "| model"))
]
# Of no paper of the page: the demo's, VideoMAE's, ours for few clips, those of docs/adapters.md.
OTHERS = (
    r".*(_demo|_small|_small-data|/c2d-vit_.*|/timesformer-vit_.*"
    r"|/(st-adapter|aim|zero-cost|side4video)-.*)"
)


def commands() -> list[str]:
    """The page's commands, in blocks and in the text, in their order."""
    found = re.findall(r"```bash\n(.*?)```|`(vidinit [a-z]+ [^`]+)`", TEXT, flags=re.S)
    lines: list[str] = []
    for block, words in found:
        text = (block or words).replace("\\\n", " ")
        lines += re.sub(r"^for (\w+) in (.*?); do\n(.*?)^done$", unrolled, text, flags=re.M | re.S)\
            .splitlines()  # fmt: skip
    return [" ".join(line.split()) for line in lines if line.strip()]


def unrolled(loop: re.Match[str]) -> str:
    """A loop of the shell as the lines that it runs."""
    name, values, body = loop.groups()
    return "".join(body.replace(f"${name}", value) for value in values.split())


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """A command as the command line reads it: its name (``preset show``) and its parameters."""
    _, *words = shlex.split(line)
    command, name = PROGRAM, []
    while hasattr(command, "commands"):
        name.append(words.pop(0))
        command = command.commands[name[-1]]
    with command.make_context(name[-1], words) as context:
        return " ".join(name), dict(context.params)


def recipe(name: str) -> str:
    """A preset's full name; that of `finetune` where no command says which."""
    return find_preset(name)


def configured(command: str, given: dict[str, Any]) -> Any:
    """The configuration of a training."""
    preset = given["preset"] and find_preset(given["preset"], command)
    flags = {"train.lr": given["lr"], "data.modality": given["modality"]}
    if command == "distill":
        flags |= {"distill.picks": given["picks"], "distill.keep": given["keep"]}
    if command == "cotrain":
        sources = [parse_source(text, "video") for text in given["sources"] or ()]
        flags["sources"] = sources + [parse_source(t, "image") for t in given["images"] or ()]
        flags |= {key: given[key.partition(".")[2]] or None for key in ("cotrain.ablate",)}
    init = given.get("init_from")
    return build(
        CONFIGS[command],
        preset=preset,
        overrides=given["overrides"] or (),
        flags={
            **flags,
            "model": given.get("model") or given.get("student"),
            "init_from": None if init is None else str(init),
        },
    )


def check_training(command: str, given: dict[str, Any], made: set[str]) -> None:
    config = configured(command, given)
    for place in (config.model, config.init_from):
        if place is not None and place.startswith("runs/"):
            assert place in made, "made by a command above"
    if not config.model.startswith("runs/"):
        find_entry(config.model)
    for teacher in given.get("teacher") or ():
        parse_teacher(teacher)


def check(line: str, made: set[str]) -> None:
    """That what a line names is there; ``made`` holds the folders of the commands before it."""
    command, given = parsed(line)
    if command == "convert":
        source, to = str(given["source"]), str(given["to"])
        public = re.search(r"\.(pt|pth|pth\.tar)$", source)
        if public:
            find_entry(to)
        else:
            find_target(to, source)
            assert source.startswith("torchvision:") or timm.is_model(source.partition(".")[0])
            if "." in source:
                assert source in timm.list_pretrained()
    elif command in CONFIGS and command != "eval":
        if not given.get("report"):
            check_training(command, given, made)
    elif command == "eval":
        folders = [given["model"]] if given["predictions"] is None else []
        for folder in (*folders, given["predictions"], given["fuse"]):
            assert folder is None or str(folder) in made, folder
        build(CONFIGS["eval"], overrides=given["overrides"] or (), flags={"model": "x"})
    elif command == "profile":
        for name in given["models"]:
            assert name in made or vidinit.list_models(name), name
        assert given["results"] is None or any(
            one.startswith(str(given["results"])) for one in made
        )
    else:
        assert command in ("preset show", "preset copy")
        find_preset(given["name"])
    if given.get("out"):
        made.add(str(given["out"]))


def test_the_commands_resolve():
    lines, made = commands(), set()
    assert len(lines) >= 60
    for line in lines:
        try:
            check(line, made)
        except Exception as error:
            raise AssertionError(line) from error


TRAININGS = [line for line in commands() if parsed(line)[0] in CONFIGS]
TRAININGS = [line for line in TRAININGS if parsed(line)[0] != "eval" and "--report" not in line]
# Random sources have images among them, of one frame, which DiST does not take.
TRAININGS = [line for line in TRAININGS if "cotrain dist" not in line]


def networks() -> dict[str, str]:
    """The zoo name of the network in each folder that a command of the page makes."""
    found: dict[str, str] = {}
    for line in commands():
        command, given = parsed(line)
        if command == "convert":
            source = str(given["source"]).split(".")[0]
            network = find_target(given["to"], source)[0] if timm.is_model(source) else given["to"]
            found[str(given["out"])] = str(network)
        elif line in TRAININGS:
            model = configured(command, given).model
            found[str(given["out"])] = found.get(model, model)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("line", TRAININGS)
def test_a_training_takes_its_first_step(line, tmp_path, monkeypatch):
    """With the page's network and settings; clips are small, random and few, weights are random."""
    monkeypatch.chdir(tmp_path)
    command, given = parsed(line)
    config = configured(command, given)
    small = 224 if "timesformer" in line else 64
    small = 70 if "dist-l14" in line else small
    frames = config.data.frames and min(config.data.frames, 16 if "s3d" in line else 8)
    size = {"data.size": small, "data.frames": frames, "data.batch_size": 2 * config.data.repeats}
    steps = {"epochs": 1, "warmup_epochs": 0, "lr_steps": [], "precise_bn": 0, "accumulate": 1}
    nothing = {"train": None, "val": None, "root": None, "class_names": None, "split": 1}
    settings = {
        **size,
        **{f"train.{key}": value for key, value in steps.items()},
        **{f"data.{key}": value for key, value in {"workers": 0, **nothing}.items()},
    }
    own = {key: value for key, value in settings.items() if value is not None}
    known = networks()
    options: dict[str, Any] = {"preset": given["preset"], "overrides": own, "dry_run": True}
    for key in ("lr", "modality", "picks", "teacher"):
        options |= {key: given[key]} if given.get(key) else {}
    model = known.get(config.model, config.model)
    if command == "distill":
        found = vidinit.distill(model, **options)
    elif command == "cotrain":
        found = vidinit.cotrain(model, **options)
    else:
        found = vidinit.finetune(model, **options)
    assert found["model"] == model
    assert found["losses"] and all(map(math.isfinite, found["losses"].values()))
    assert not list(tmp_path.iterdir())


def test_a_command_with_a_slip_does_not():
    for line in (
        "vidinit finetune r3d50 --preset sts-r3d50_k40",
        "vidinit finetune r3d50 --preset sts-r3d50_k400 train.epoch=3",
        "vidinit convert resnet50 --to sts-r3d51",
        "vidinit convert vit_base_patch16_224.openai --to dist",
        "vidinit distill --teacher imagenet,los=mse",
        "vidinit eval runs/never",
        "vidinit profile 's3d@tip:*'",
    ):
        with pytest.raises((vidinit.errors.UsageError, AssertionError)):
            check(line, set())


def test_what_is_added_to_a_recipe_is_known():
    """`data.frames=32` behind a preset, and `--picks center` behind the distillation."""
    start = "vidinit distill --preset r2plus1d-18_kinetics --videos kinetics/ "
    added = [cell for row in ROWS for cell in row if re.match(r"`--(picks|keep|videos)", cell)]
    assert len(added) >= 7
    for cell in added:
        check(start + cell.strip("`"), set())
    settings = re.findall(r"`([\w-]+_(?:k400|ssv2))` with `([a-z.]+=\d+)`", TEXT)
    assert len(settings) == 4
    for name, override in settings:
        build(CONFIGS["finetune"], preset=name, overrides=[override])


def test_every_recipe_of_a_paper_is_there_with_its_figure():
    named = {
        recipe(word)
        for word in re.findall(
            r"`([\w-]+_(?:k400|ssv2|hmdb51|ucf101|kinetics|in1k|videos|ava|jhmdb)[\w-]*)`", TEXT
        )
    }
    assert named == {name for name in list_presets() if not re.fullmatch(OTHERS, name)}
    for row in ROWS:
        alone = [m[1] for cell in row if (m := re.fullmatch(r"`([\w-]+_[\w-]+)`", cell))]
        for name in alone:
            assert re.search(rf"(^|\D){FIGURES[recipe(name)]}(\D|$)", row[-1] + " | " + row[2]), row


def test_targets_of_the_tables_are_networks():
    part = TEXT.partition("\n## S3D\n")[2].partition("\n## ")[0]
    names = set(re.findall(r"`((?:i2d|i3d|s3d|s3d-g|fast-s3d)(?:@\w+:[K\d])?)`", part))
    assert len(names) >= 10
    for name in names:
        find_target(name.replace(":K", ":3"), "torchvision:googlenet")


COUNTED = [
    row for row in ROWS if len(row) >= 4 and re.fullmatch(r"[\d,]+", row[2]) and "x" in row[1]
]
QUICK = ("`sts-x3d-s`", "`r2plus1d-18`")


def test_what_is_said_to_be_equal_names_tests_that_exist():
    """A sentence with "exact", and each list of what is as published."""
    for sentence in re.split(r"(?<=[.:])\s", TEXT):
        assert "exact" not in sentence.lower() or "tests/" in sentence, sentence
    sections = TEXT.split("\n## ")[1:]
    equal = [part for part in sections if "As published" in part]
    assert len(equal) == len(sections) == 6
    assert all(re.search(r"[Tt]ested:\s+`tests/", part) for part in equal)
    named = set(re.findall(r"`(tests/[\w./]+)`", TEXT))
    assert len(named) >= 8 and all((PAGE.parents[1] / file).is_file() for file in named)


def test_rows_without_a_command_say_why():
    missing = [cell for row in ROWS for cell in row if re.search(r"\b(missing|none)\b", cell)]
    assert len(missing) >= 5
    assert all("because" in cell or "not public" in cell for cell in missing), missing


def test_there_are_counts():
    assert len(COUNTED) == 18


@pytest.mark.parametrize(
    "row",
    [r if r[0] in QUICK else pytest.param(r, marks=pytest.mark.slow) for r in COUNTED],
    ids=lambda row: row[0].strip("`"),
)
def test_the_counts_are_those_of_the_models(row):
    frames, size = map(int, row[1].split("x"))
    (found,) = vidinit.profile([row[0].strip("`")], frames=frames, size=size, count_only=True)
    assert found["params"] == int(row[2].replace(",", ""))
    assert found["gmacs"] == pytest.approx(float(row[3]), abs=6e-4)
