"""`docs/papers.md`: its commands resolve, its recipes have its figures, its counts are counted."""

from __future__ import annotations

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
# Of no paper of the page: the demo's, VideoMAE's, and one of our own.
OTHERS = r".*(_demo|_small|/c2d-vit_.*|/timesformer-vit_.*)"


def commands() -> list[str]:
    """The page's commands, in blocks and in the text, in their order."""
    found = re.findall(r"```bash\n(.*?)```|`(vidinit [a-z]+ [^`]+)`", TEXT, flags=re.S)
    lines: list[str] = []
    for block, words in found:
        lines += (block or words).replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines]


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


def check_training(command: str, given: dict[str, Any], made: set[str]) -> None:
    preset = given["preset"] and find_preset(given["preset"], command)
    model = given.get("model") or given.get("student")
    flags = {"train.lr": given["lr"], "data.modality": given["modality"]}
    if command == "distill":
        flags |= {"distill.picks": given["picks"], "distill.keep": given["keep"]}
    config = build(
        CONFIGS[command],
        preset=preset,
        overrides=given["overrides"] or (),
        flags={**flags, "model": model},
    )
    if config.model.startswith("runs/"):
        assert config.model in made, "made by a command above"
    else:
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
        assert str(given["model"]) in made
        build(CONFIGS["eval"], overrides=given["overrides"] or (), flags={"model": "x"})
    elif command == "profile":
        for name in given["models"]:
            assert name in made or vidinit.list_models(name), name
    else:
        assert command in ("preset show", "preset copy")
        find_preset(given["name"])
    if given.get("out"):
        made.add(str(given["out"]))


def test_the_commands_resolve():
    lines, made = commands(), set()
    assert len(lines) >= 30
    for line in lines:
        try:
            check(line, made)
        except Exception as error:
            raise AssertionError(line) from error


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
        for word in re.findall(r"`([\w-]+_(?:k400|ssv2|hmdb51|kinetics|in1k|videos)[\w-]*)`", TEXT)
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
