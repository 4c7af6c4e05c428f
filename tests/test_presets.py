"""The shipped recipes: that they work, and that their values are the published ones."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import published_adapters as adapters
import pytest
import torch
import typer
import yaml
from published import FIGURES, GUESSED, OURS, PUBLISHED, SOURCES, STS_SSV2, UNPUBLISHED, VIEWS
from vidinit.commands import app

import vidinit
from vidinit.config.build import build, dumped
from vidinit.config.presets import (
    copy_preset,
    find_preset,
    list_presets,
    preset_folder,
    preset_path,
    read_header,
)
from vidinit.conversion.plan_options import parse_options
from vidinit.data.views import Sampling
from vidinit.engine.optimizer import lr_factor, peak_lr
from vidinit.errors import UsageError
from vidinit.pipelines.evaluate.settings import EvaluateConfig
from vidinit.pipelines.registry import config_classes
from vidinit.zoo.names import find_entry

CONFIGS = config_classes()

ROOT = Path(__file__).parents[1]
NAMES = list_presets()
COUNT = 63
PROGRAM = typer.main.get_command(app)


def made_for(name: str) -> Any:
    """A preset's configuration, without anything else."""
    return build(CONFIGS[name.partition("/")[0]], preset=name)


def value_of(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """A documented command as the command line reads it: its name and its parameters."""
    program, name, *words = shlex.split(line)
    assert program == "vidinit"
    command = PROGRAM.commands[name]
    with command.make_context(name, words) as context:
        return name, dict(context.params)


def test_there_are_all_of_them():
    files = [p for p in (ROOT / "presets").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    shipped = [p for p in files if p.name != "__init__.py"]
    assert len(NAMES) == len(shipped) == COUNT
    assert preset_folder().samefile(ROOT / "presets")
    ours = {name for name in NAMES if name.endswith(("_demo", "_small-data"))}
    assert set(PUBLISHED) == set(NAMES) - ours, "every recipe of a paper is in the table"


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_resolves_and_round_trips(name, tmp_path):
    command, _, short = name.partition("/")
    cls = CONFIGS[command]
    built = build(cls, preset=name)
    assert built == build(cls, preset=short)
    find_entry(built.model)
    assert built.data.batch_size % built.data.repeats == 0
    for key, place in built.origins.items():
        assert place == "default" or place.startswith(f"preset {name}:"), key
    (tmp_path / "shown.yaml").write_text(dumped(built, origins=True))
    assert build(cls, file=tmp_path / "shown.yaml") == built
    copy_preset(name, tmp_path / "copied.yaml")
    assert build(cls, file=tmp_path / "copied.yaml") == built


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_sets_each_key_once_and_flat(name):
    values = yaml.safe_load(preset_path(name).read_text())
    known = {"model", "task", "options", "data", "train", "eval", "distill", "text", "detect"}
    assert set(values) <= known
    sections = [section for section in values.values() if isinstance(section, dict)]
    assert not any(isinstance(value, dict) for section in sections for value in section.values())


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_small-data")])
def test_small_data_has_the_settings_that_had_to_be_known(name):
    config = made_for(name)
    data, train = config.data, config.train
    assert (data.sampling, data.min_area, train.optimizer) == ("uniform", 0.5, "adamw")
    assert train.temporal_lr_scale == 10 and train.head_lr_scale > 1
    assert data.size <= data.decode_side <= 1.2 * data.size, "no larger frame than is seen"
    assert (data.frames, data.batch_size, train.epochs) == (8, 8, 20)
    assert (train.layer_decay == 0.75) == ("vit" in name)
    # A video of 20 frames is not looped.
    assert Sampling(data.frames, kind=data.sampling).kind != "dense"


def other_values(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """What a preset has other than a table, and what the table has."""
    config = made_for(name)
    return {
        key: (value_of(config, key), wanted)
        for key, wanted in table.items()
        if value_of(config, key) != (pytest.approx(wanted) if type(wanted) is float else wanted)
    }


def keys_set_by(name: str) -> set[str]:
    values = yaml.safe_load(preset_path(name).read_text())
    own = {key for key, value in values.items() if not isinstance(value, dict)}
    inside = {k: v for k, v in values.items() if isinstance(v, dict)}
    return own | {f"{section}.{key}" for section, keys in inside.items() for key in keys}


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_are_the_published_ones(name):
    assert other_values(name, PUBLISHED[name]) == {}


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - set(UNPUBLISHED)))
def test_every_value_is_a_published_one_or_a_guess_that_the_header_names(name):
    published, guessed = PUBLISHED[name], GUESSED.get(name, {})
    assert other_values(name, guessed) == {}
    assert not published.keys() & guessed.keys()
    assert keys_set_by(name) <= published.keys() | guessed.keys() | OURS.keys()
    header = read_header(preset_path(name).read_text())
    assert SOURCES[name] in header.source
    assert "Equal" in header.notes
    if guessed:
        assert "Guessed" in header.notes


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - set(UNPUBLISHED)))
def test_the_last_epoch_is_what_a_paper_is_compared_with(name):
    """The best one would be chosen on the clips that it is scored on."""
    assert made_for(name).train.select == "last"


def test_passes_over_the_data_make_the_published_lengths():
    """Papers count clips or steps, presets count passes."""
    k400, hmdb, kinetics = 240_436, 3_570, 300_000
    s3d = made_for("finetune/s3d_k400").train
    steps = [e * k400 / s3d.lr_batch for e in (*s3d.lr_steps, s3d.epochs)]
    assert steps == pytest.approx([60_000, 70_000, 80_000], rel=0.002)
    ucf = made_for("finetune/r2plus1d-18_ucf101-32f").train
    passes = [e * 9_537 for e in (*ucf.lr_steps, ucf.epochs)]
    assert passes == pytest.approx([e * 100_000 for e in (2, 4, 6, 8)], rel=0.002)
    for name in ("r2plus1d-18_kinetics", "r3d-18_kinetics", "r2plus1d-18_kinetics-32f"):
        train = made_for(f"distill/{name}").train
        clips = [e * kinetics for e in (*train.lr_steps, train.epochs)]
        assert clips == pytest.approx([10e6, 20e6, 30e6, 40e6, 45e6], rel=0.002)
    tuning, scratch = (2, 4, 6, 8), (10, 20, 30, 40, 45)
    for name, epochs in (("", tuning), ("-32f", tuning), ("-scratch", scratch)):
        train = made_for(f"finetune/r2plus1d-18_hmdb51{name}").train
        clips = [e * hmdb for e in (*train.lr_steps, train.epochs)]
        assert clips == pytest.approx([e * 40_000 for e in epochs], rel=0.005)
    for name in list_presets("finetune/*_in1k"):
        images = made_for(name)
        # An epoch of timm's repeated augmentation is as long as one without it.
        assert images.train.epochs * images.data.repeats == 300
        assert images.train.warmup_epochs * images.data.repeats == pytest.approx(5, rel=1e-3)


@pytest.mark.parametrize("gpus", [1, 8, 16])
def test_the_rate_of_vmz_is_that_of_its_code(gpus):
    """WarmupMultiStepLR of pt/vmz/common/scheduler.py, over 45 epochs of 5 clips of each video."""
    config = made_for("distill/r2plus1d-18_kinetics-vmz")
    train, steps = config.train, 7  # steps of a pass
    whole = 5 * steps  # of an epoch of theirs
    peak = peak_lr(train.lr, train.lr_batch, config.data.batch_size * gpus)
    assert peak == pytest.approx(0.01 * gpus)
    for step in range(0, 45 * whole):
        done = step / (10 * whole)
        warmup = 1e-5 * (1 - done) + done if step < 10 * whole else 1.0
        wanted = 0.01 * gpus * warmup * 0.1 ** sum(step >= m * whole for m in (20, 30, 40))
        assert peak * lr_factor(step, steps, train) == pytest.approx(wanted, rel=1e-9)
    model = vidinit.create_model  # the paper's 33.3 M parameters, beside the head's
    with torch.device("meta"):
        made = model("r2plus1d-18", num_classes=400, **parse_options(config.options))
    assert sum(p.numel() for p in made.parameters()) == 33_370_839


def test_videomae_peaks_where_it_did():
    config = made_for("finetune/c2d-vit_base_patch16_224_k400")
    clips = 64 * config.data.batch_size
    assert clips == 384 * config.data.repeats
    assert config.train.lr * clips / config.train.lr_batch == pytest.approx(7.5e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_what_it_is(name):
    text = preset_path(name).read_text()
    header = read_header(text)
    assert header.title.endswith(".") and header.needs and header.published
    assert max(map(len, text.splitlines())) <= 100
    assert FIGURES.get(name, "") in header.published
    assert (name in FIGURES) != name.endswith(("_demo", "_small", "_small-data"))


@pytest.mark.parametrize("name", NAMES)
def test_the_header_holds_commands_that_work(name):
    header = read_header(preset_path(name).read_text())
    command, given = parsed(header.command)
    assert command == name.partition("/")[0]
    assert find_preset(given["preset"], command) == name
    if header.first:
        before, first = parsed(header.first)
        taken = given.get("init_from") or given["model"]
        assert str(first["out"]) == str(taken), "the one takes what the other made"
        if before == "distill":
            data = "hmdb51" if "hmdb51" in name else "ucf101"
            assert find_preset(first["preset"], "distill") == find_preset(
                name.partition("/")[2].replace(data, "kinetics"), "distill"
            )
        elif before == "finetune":  # on images
            assert made_for(find_preset(first["preset"], "finetune")).model == str(first["model"])
            assert str(given["model"]) == made_for(name).model
            assert str(first["model"]) == made_for(name).model.replace("sts", "plain", 1)
        else:
            to = first["to"]
            assert made_for(name).model in (to, f"{to}-{first['source']}")
    assert bool(header.score) == (name in VIEWS)
    if header.score:
        scoring, score = parsed(header.score)
        assert scoring == "eval" and score["model"] == str(given["out"])
        config = build(
            EvaluateConfig,
            overrides=score["overrides"] or (),
            flags={
                "model": score["model"],
                "eval.clips": score["clips"],
                "eval.crops": score["crops"],
                "eval.average": score["average"],
                "data.batch_size": score["batch_size"],
            },
        )
        clips = score["views"] or config.eval.clips
        views = (clips, config.eval.crops, config.data.size, config.data.crop_pct)
        assert views == VIEWS[name]
        # What a folder does not keep, the command says.
        wanted = getattr(made_for(name), "eval", config.eval)
        assert (config.eval.start, config.eval.average) == (wanted.start, wanted.average)


@pytest.mark.parametrize("name", adapters.PUBLISHED)
def test_the_first_command_makes_the_published_network(name):
    header = read_header(preset_path(name).read_text())
    _, first = parsed(header.first)
    given = parse_options(first["option"] or (), vidinit.convert)
    assert given == adapters.OPTIONS.get(name, {})
    frames = first["frames"] or find_entry(first["to"]).frames
    assert frames == made_for(name).data.frames


# ------------------------------------------------------------------ names and copies


def test_names_are_found_with_and_without_their_command():
    assert find_preset("sts-r3d50_k400") == find_preset("finetune/sts-r3d50_k400")
    assert list_presets("*_ssv2") == list_presets("finetune/*_ssv2") and len(STS_SSV2) == 5
    assert list_presets("nothing*") == []
    twice = "s3d-tf_efficientnet_lite0_demo"
    assert find_preset(twice, "distill") == f"distill/{twice}"
    with pytest.raises(UsageError, match=f"several presets .*name distill/{twice} or finetune/"):
        find_preset(twice)


def test_unknown_presets_are_suggested():
    with pytest.raises(UsageError, match=r"did you mean 'distill/s3d-tf_efficientnet_lite0_demo'"):
        find_preset("s3d-tf_eficientnet_lite0_demo", "distill")
    with pytest.raises(UsageError, match=r"did you mean 'finetune/sts-r3d50_k400'"):
        find_preset("finetune/sts-r3d50_k40")
    with pytest.raises(UsageError, match="`vidinit preset list` shows all"):
        find_preset("qqq")
    with pytest.raises(UsageError, match=r"is for `vidinit distill`, not for `vidinit finetune`"):
        find_preset("r3d-18_kinetics", "finetune")


def test_a_header_is_read_to_its_parts():
    header = read_header(
        "# A title\n# of two lines.\n#\n# Needs:   one thing\n#          or two.\n"
        "# Command: vidinit finetune x \\\n#            --data y\n"
        "# Expect:  50.0 top-1; not ours.\n"
        "#\n# A note.\n#\n# Another.\nmodel: x\n# no header\n"
    )
    assert header.as_dict() == {
        "title": "A title of two lines.",
        "needs": "one thing or two.",
        "first": "",
        "command": "vidinit finetune x --data y",
        "score": "",
        "expect": "50.0 top-1; not ours.",
        "notes": "A note. Another.",
        "source": "",
    }
    assert header.published == "50.0 top-1"


def test_copies_replace_nothing_unasked(tmp_path):
    file = tmp_path / "my.yaml"
    assert copy_preset("sts-r3d50_k400", file) == "finetune/sts-r3d50_k400"
    text = preset_path("finetune/sts-r3d50_k400").read_text()
    assert file.read_text() == text.replace("\nmodel:", "\ncommand: finetune\nmodel:", 1)
    file.write_text("mine")
    with pytest.raises(UsageError, match="exists already; pass --force"):
        copy_preset("sts-r3d50_k400", file)
    assert file.read_text() == "mine"
    copy_preset("sts-r3d50_k400", file, force=True)
    assert file.read_text() != "mine"
    with pytest.raises(UsageError, match="is a folder"):
        copy_preset("sts-r3d50_k400", tmp_path, force=True)
    with pytest.raises(UsageError, match="cannot be written"):
        copy_preset("sts-r3d50_k400", tmp_path / "none" / "my.yaml")


# ------------------------------------------------------------------ on their models


def reduced(name: str) -> dict[str, Any]:
    """Overrides with which a preset runs on a CPU: its own model, tiny clips, small batches."""
    config = made_for(name)
    size, frames = 64, min(config.data.frames or 8, 16 if config.model == "s3d" else 8)
    if "c2d-vit_" in config.model:  # its grid of patches is fixed
        size, frames = 224, 1
    elif "l14" in config.model:  # patches of 14 pixels
        size = 70
    return {
        "data.size": size,
        "data.frames": frames,
        "data.batch_size": 2 * config.data.repeats,
        "data.workers": 0,
        "train.epochs": 1,
        "train.warmup_epochs": 0,
        "train.lr_steps": [],
        "train.accumulate": min(2, config.train.accumulate),
        "train.precise_bn": min(1, config.train.precise_bn),
        "precision": "fp32",
        "device": "cpu",
    }


QUICK = ("distill/s3d-tf_efficientnet_lite0_demo", "finetune/s3d-tf_efficientnet_lite0_demo")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_a_preset_takes_its_first_step(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = name.partition("/")[0]
    wanted = build(CONFIGS[command], preset=name, overrides=reduced(name))
    found = getattr(vidinit, command)(preset=name, overrides=reduced(name), dry_run=True)
    clips, data = found["batch"], wanted.data
    assert found["model"] == wanted.model
    assert found["shapes"]["clip"][0] == clips
    if command != "cotrain":  # which may begin with images
        assert found["shapes"]["clip"] == [clips, 3, data.frames, data.size, data.size]
        assert clips == data.batch_size
    assert found["losses"] and all(map(math.isfinite, found["losses"].values()))
    assert 0 < found["trained"] <= found["params"]
    assert found["memory_mb"]["total"] > found["params"] * 4 / 2**20
    assert not list(tmp_path.iterdir())
