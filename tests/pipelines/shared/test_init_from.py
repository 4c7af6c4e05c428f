"""`--init-from`: weights of another run, in a run of its own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from support import MODEL, SMALL

import vidinit
from vidinit.checkpoint import save_model
from vidinit.engine import checkpoint_folders as folders
from vidinit.errors import UsageError
from vidinit.pipelines.shared.init_from import initial_folder
from vidinit.pipelines.shared.training import open_model


def parameters(model: torch.nn.Module, *, head: bool) -> dict[str, torch.Tensor]:
    return {n: p for n, p in model.named_parameters() if head or not n.startswith("head.")}


def same(a: torch.nn.Module, b: torch.nn.Module, *, head: bool) -> bool:
    others = parameters(b, head=head)
    return all(torch.equal(p, others[n]) for n, p in parameters(a, head=head).items())


def test_a_run_starts_from_another_runs_weights_without_naming_the_network(
    trained, motion_set, tmp_path, capsys
):
    out = tmp_path / "run"
    result = vidinit.finetune(
        init_from=trained, data=motion_set, out=out, overrides=SMALL, epochs=1, lr=1e-12
    )
    assert result["steps"] == 3
    assert "random weights" not in capsys.readouterr().err
    model = vidinit.load(out)
    steps = [step["step"] for step in model.lineage]
    assert model.name == MODEL and steps == ["finetune", "finetune"]
    # A rate of nothing leaves the weights where they began, head included: the classes are equal.
    start = vidinit.load(trained)
    largest = max(
        float((p - parameters(start, head=True)[n]).detach().abs().max())
        for n, p in parameters(model, head=True).items()
    )
    assert largest < 1e-6
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["init_from"] == str(trained) == config["model"]


def test_a_named_network_takes_what_fits_and_says_what_does_not(trained, capsys):
    model = open_model(f"s3d-g-{MODEL[4:]}", 2, ["left", "right"], init_from=str(trained))
    said = capsys.readouterr().err
    start = vidinit.load(trained)
    assert torch.equal(model.head.weight, start.head.weight)
    gates = [name for name in model.state_dict() if name not in start.state_dict()]
    assert gates and gates[0] in said
    assert f"{len(start.state_dict())} of the {len(model.state_dict())} tensors" in said
    assert "random weights" not in said


def test_a_head_for_other_classes_is_not_taken(trained, capsys):
    model = open_model(MODEL, 2, ["up", "down"], init_from=str(trained))
    start = vidinit.load(trained)
    assert same(model, start, head=False)
    assert not torch.equal(model.head.weight, start.head.weight)
    assert "as new: head.weight, head.bias" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["last", "best", "newest"])
def test_a_checkpoint_gives_its_weights(trained, name):
    newest = folders.newest(trained / "checkpoints")
    assert newest is not None
    place = newest if name == "newest" else newest.with_name(name)
    model = open_model(MODEL, 2, ["left", "right"], init_from=str(place))
    end = torch.load(  # what accelerate itself reads
        place / "optimizer.bin", weights_only=True
    )
    assert end["state"], "it is a checkpoint of training"
    from safetensors.torch import load_file

    state = load_file(place / "model.safetensors")
    assert all(
        torch.equal(p, state[f"model.{n}"]) for n, p in parameters(model, head=False).items()
    )


def test_the_averages_of_a_checkpoint_are_what_counts(motion_set, tmp_path):
    out = tmp_path / "run"
    vidinit.finetune(MODEL, data=motion_set, out=out, overrides=[*SMALL, "train.ema=0.9"], epochs=1)
    model = open_model(MODEL, 2, ["left", "right"], init_from=str(out / "checkpoints" / "last"))
    assert same(model, vidinit.load(out), head=False), "the model folder holds the averages, too"


def test_parameters_that_layers_share_are_averaged_and_taken_under_all_their_names(
    motion_set, tmp_path, capsys, caplog
):
    """CoaT's blocks of a stage share their position encodings."""
    small = {"img_size": 32, "embed_dims": (16,) * 4, "mlp_ratios": (1,) * 4}
    shared = vidinit.create_model("c2d-coat_lite_mini", num_classes=2, network=small)
    save_model(shared, tmp_path / "model")
    out = tmp_path / "run"
    overrides = [*SMALL, "train.ema=0.5", "train.select=last"]
    vidinit.finetune(
        tmp_path / "model", data=motion_set, out=out, overrides=overrides, epochs=2, lr=0.01
    )
    assert "Removed shared tensor" not in caplog.text + capsys.readouterr().err
    last = str(out / "checkpoints" / "last")
    model = open_model(str(tmp_path / "model"), 2, ["left", "right"], init_from=last)
    end = vidinit.load(out)
    assert same(model, end, head=False)
    assert not same(model, vidinit.load(tmp_path / "model"), head=False), "it has learned"
    assert "as new: head.weight, head.bias\n" in capsys.readouterr().err
    # A run that goes on from its checkpoint is the run that was not stopped.
    newest = folders.newest(out / "checkpoints")
    assert newest is not None
    for path in (newest, out / "model"):
        shutil.rmtree(path)
    for path in (out / "result.json", newest.with_name("last"), newest.with_name("best")):
        path.unlink(missing_ok=True)
    assert folders.newest(out / "checkpoints") is not None
    vidinit.finetune(
        tmp_path / "model",
        data=motion_set,
        out=out,
        overrides=overrides,
        epochs=2,
        lr=0.01,
        resume=True,
    )
    assert same(vidinit.load(out), end, head=True)


def test_a_run_that_was_stopped_gives_its_newest_checkpoint(trained, tmp_path):
    run = tmp_path / "stopped"
    shutil.copytree(trained, run, symlinks=True, ignore=shutil.ignore_patterns("model"))
    newest = folders.newest(run / "checkpoints")
    assert initial_folder(str(run)) == newest


def test_the_same_run_resumes_with_its_first_weights_named(trained, motion_set, tmp_path):
    out = tmp_path / "run"
    given = {"data": motion_set, "out": out, "overrides": SMALL, "epochs": 1}
    first = vidinit.finetune(init_from=trained, **given)
    again = vidinit.finetune(init_from=trained, resume=True, **given)
    assert again["steps"] == first["steps"]
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(UsageError, match=r"was started with model=.*runs\d+/trained"):
        vidinit.finetune(MODEL, resume=True, **given)


def _empty(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


@pytest.mark.parametrize(
    ("model", "place", "message"),
    [
        (MODEL, lambda tmp, run: str(tmp / "nothing"), "nothing does not exist"),
        (MODEL, lambda tmp, run: _empty(tmp / "empty"), "empty holds no weights"),
        (None, lambda tmp, run: str(run / "checkpoints/last"), "which holds weights only"),
        ("x3d-s", lambda tmp, run: str(run), "none of its .* tensors fits x3d-s"),
    ],
)
def test_what_cannot_be_is_told(model, place, message, trained, motion_set, tmp_path):
    with pytest.raises(UsageError, match=message):
        vidinit.finetune(
            model,
            init_from=place(tmp_path, trained),
            data=motion_set,
            out=tmp_path / "out",
            overrides=SMALL,
        )
    assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint_is_not_taken(trained, tmp_path):
    newest = folders.newest(trained / "checkpoints")
    copied = shutil.copytree(newest, tmp_path / newest.name)
    with (copied / "model.safetensors").open("r+b") as file:
        file.seek(5000)
        file.write(b"\0\1\2\3")
    with pytest.raises(UsageError, match="is damaged"):
        initial_folder(str(copied))


def test_adapters_of_another_tower_are_told(motion_set, tmp_path, capsys):
    """A checkpoint holds the digest of a frozen tower: its tensors are the named model's own."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = vidinit.create_model("st-adapter-test_vit", num_classes=2, width=16)
        model.spec = replace(model.spec, frames=2, size=32)
        save_model(model, tmp_path / f"tower {seed}")
    run, classes = tmp_path / "run", ["left", "right"]
    settings = [*SMALL, "train.select=last", "data.size=32", "data.frames=2"]
    vidinit.finetune(
        tmp_path / "tower 0", data=motion_set, out=run, overrides=settings, epochs=1, lr=0.1
    )
    last, trained = str(run / "checkpoints" / "last"), vidinit.load(run)
    capsys.readouterr()
    own = open_model(str(tmp_path / "tower 0"), 2, classes, init_from=last)
    said = capsys.readouterr().err
    assert same(own, trained, head=False)
    assert "another frozen tower" not in said and "as new: head.weight, head.bias\n" in said
    open_model(str(tmp_path / "tower 1"), 2, classes, init_from=last)
    assert "was trained with another frozen tower" in capsys.readouterr().err


def test_a_model_that_names_its_tower_does_so_still(tmp_path):
    """Weights of a run with the same tower do not bring the tower into the folder."""
    weights = vidinit.create_model("c2d-test_vit", num_classes=2).state_dict()
    file = tmp_path / "tower.pth"
    torch.save({name.removeprefix("trunk."): value for name, value in weights.items()}, file)
    start = tmp_path / "start"
    vidinit.convert(
        "test_vit", "st-adapter", weights=file, whole=False, frames=2, size=32, out=start
    )
    reference = vidinit.load(start).reference
    model = open_model(str(start), 2, ["left", "right"], init_from=str(start))
    assert reference is not None and model.reference == reference
