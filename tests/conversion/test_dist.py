from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from accelerate import Accelerator
from dist_models import clip_like_vit, clips, small_dist
from safetensors.torch import load_file
from support import json_of, run_cli
from torch import Tensor

import vidinit
from vidinit.checkpoint import load, load_pair, save_model
from vidinit.conversion.frozen_tower import is_isolated, prove_tower
from vidinit.conversion.layouts.dist import LISTS, OLDER
from vidinit.conversion.layouts.read_write import Found, read_layout, recognize, write_layout
from vidinit.conversion.proof import still_frames
from vidinit.engine import resume
from vidinit.engine.resume import Progress
from vidinit.errors import UsageError, VidinitError
from vidinit.pipelines.convert import convert
from vidinit.zoo.adapters.reference import reference_to
from vidinit.zoo.dist_network.model import DistModel
from vidinit.zoo.images.networks import load_image_model

ARCH = "vit_tiny_patch16_224"
SMALL: dict[str, Any] = {"dim": 64, "temporal_dim": 16, "pools": 1, "frames": 4, "size": 32}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model(ARCH, num_classes=10).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that names its tower, by file."""
    out = tmp_path_factory.mktemp("models") / "by-reference"
    report = convert(ARCH, "dist", weights=weights, out=out, whole=False, **SMALL)
    assert report.exact and report.max_difference == 0.0
    return out


# ------------------------------------------------------------------ conversion and proof


def test_conversion(weights: Path, tmp_path: Path) -> None:
    report = convert(ARCH, "dist", weights=weights, out=tmp_path / "m", **SMALL)
    assert (report.target, report.exact, report.max_difference) == (f"dist-{ARCH}", True, 0.0)
    found = {(row.stage, row.kind): row.tensors for row in report.rows}
    model = report.model
    assert isinstance(model, DistModel)
    assert found["tower", "copied"] == len(model.tower.state_dict())
    assert found["side", "initialized"] == len(model.side.state_dict())
    assert not any(p.grad is not None for p in model.parameters())
    assert any("classifier of 10 classes" in note for note in report.notes)
    assert "tower" not in yaml.safe_load((tmp_path / "m" / "model.yaml").read_text())
    again = load(tmp_path / "m")  # the tower of a file that may go is in the folder
    video = clips(1)
    with torch.no_grad():
        assert torch.equal(again(video), model.eval()(video))
    state = torch.load(weights)
    assert torch.equal(again.state_dict()["tower.vit.norm.weight"], state["norm.weight"])


@pytest.mark.slow
def test_conversion_by_command(weights: Path, tmp_path: Path) -> None:
    done = run_cli(
        *("convert", ARCH, "--weights", weights, "--to", "dist", "--frames", "4", "--size", "32"),
        *("--num-classes", "3", "--out", tmp_path / "m"),
    )
    assert "frozen tower: exact" in done.stdout, done.stderr
    assert "no gradient reaches it" in " ".join(done.stdout.split())
    assert load(tmp_path / "m").num_classes == 3


def test_a_tower_that_differs_is_no_proof() -> None:
    vit = clip_like_vit()
    model = small_dist(clip_like_vit())
    model.tower.vit.load_state_dict(vit.state_dict())
    assert prove_tower(vit, model).exact
    model.tower.vit.blocks[1].mlp.fc2.bias.data[0] += 1e-3
    proof = prove_tower(vit, model)
    assert not proof.exact and proof.isolated and 1e-4 < proof.max_difference < 1e-2


def test_a_gradient_that_gets_through_is_no_proof() -> None:
    model = small_dist(clip_like_vit())
    image = still_frames(1, 32)
    taps = model.tower(image)
    assert is_isolated(model, image, taps)
    assert not is_isolated(model, image, [tap.clone().requires_grad_() for tap in taps])
    model.tower.vit.norm.requires_grad_(True)
    assert not is_isolated(model, image, taps)


def test_names_that_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="has the tower vit_base") as error:
        convert("vit_base_patch16_clip_224.openai", "dist-b16", pretrained=False)
    assert "vit_base_patch16_clip_quickgelu_224.openai" in str(error.value.hint)
    with pytest.raises(UsageError, match="not vit_tiny_patch16_224"):
        convert(ARCH, "dist-b16", pretrained=False)
    with pytest.raises(UsageError, match="--no-whole"):
        convert(ARCH, "dist", pretrained=False, whole=False)
    with pytest.raises(UsageError, match="cannot be a tower"):
        convert("resnet18", "dist", pretrained=False)


# ------------------------------------------------------------------ model folders


def test_a_folder_that_names_its_tower(folder: Path, weights: Path, tmp_path: Path) -> None:
    card = yaml.safe_load((folder / "model.yaml").read_text())
    assert card["tower"]["name"] == ARCH and card["tower"]["weights"] == str(weights)
    assert not any(key.startswith("tower.") for key in load_file(folder / "model.safetensors"))
    model = load(folder)
    assert isinstance(model, DistModel) and not model.training
    state = torch.load(weights)
    assert torch.equal(model.tower.vit.state_dict()["norm.weight"], state["norm.weight"])
    model.set_text(torch.randn(3, model.num_features), ["a", "b", "c"])
    save_model(model, tmp_path / "text")
    again = load(tmp_path / "text")
    video = clips(1)
    with torch.no_grad():
        assert torch.equal(again(video), model(video))
    assert again.classes == ["a", "b", "c"] and again.num_classes == 3


def test_a_tower_that_is_gone(folder: Path, weights: Path, tmp_path: Path) -> None:
    place = tmp_path / "m"
    shutil.copytree(folder, place)
    card = yaml.safe_load((place / "model.yaml").read_text())
    card["tower"]["weights"] = str(tmp_path / "gone.pth")
    (place / "model.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(UsageError, match=r"gone: no such file .*gone\.pth") as error:
        load(place)
    assert f"{place}/tower.safetensors" in str(error.value.hint)
    shutil.copy(weights, place / "tower.pth")  # a file with the weights beside the card will do
    model = load(place)
    assert isinstance(model, DistModel) and model.reference is None  # and is kept from then on
    state = torch.load(weights)
    state["norm.weight"][0] += 1
    torch.save(state, place / "tower.pth")
    with pytest.raises(UsageError, match="another sha256"):
        load(place)


def test_a_hub_that_is_out_of_reach(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidinit.zoo.images.hub.reachable", lambda url: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "m"
    shutil.copytree(folder, place)
    card = yaml.safe_load((place / "model.yaml").read_text())
    card["tower"].update(name=f"{ARCH}.augreg_in21k_ft_in1k", weights="hub")
    (place / "model.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(VidinitError, match="could not get the weights of 'vit_tiny") as error:
        load(place)
    assert f"to {place}/tower.safetensors" in str(error.value.hint)


def test_references() -> None:
    image = load_image_model(ARCH, pretrained=False)
    hub = reference_to(image, ARCH, None)
    assert hub["weights"] == "hub" and hub["name"].startswith(f"{ARCH}.")
    assert reference_to(image, "hf-hub:timm/x", None)["name"] == "hf-hub:timm/x"
    assert reference_to(image, ARCH, "x.pth")["weights"] == str(Path("x.pth").resolve())


def test_another_tower_is_not_named_by_the_old_reference(folder: Path) -> None:
    model = load(folder)
    assert isinstance(model, DistModel) and model.reference is not None
    model.load_state_dict(model.state_dict())
    assert model.reference is None


def test_verbs_and_nouns_in_a_folder(tmp_path: Path) -> None:
    model = vidinit.create_model(f"dist-{ARCH}", num_classes=2, dim=64, temporal_dim=16, pools=1)
    model.classes, model.label_kind = ["a", "b"], "pair"
    noun = torch.nn.Linear(model.num_features, 3)
    heads = {"verb": ["a", "b"], "noun": ["c", "d", "e"]}
    save_model(model, tmp_path / "m", {"noun": noun}, head_classes=heads)
    assert load_pair(tmp_path / "m").noun.out_features == 3
    assert load(tmp_path / "m", head="noun").num_classes == 3


def test_checkpoints_hold_no_tower(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(small_dist())
    side = model.side.proj.detach().clone()
    saved = resume.save(accelerator, tmp_path, Progress(step=1))
    kept = load_file(saved / "model.safetensors")
    assert [key for key in kept if key.startswith("tower.")] == ["tower.digest"]
    model.side.proj.data.zero_()
    assert resume.restore(accelerator, tmp_path) is not None
    assert torch.equal(model.side.proj, side)
    model.tower.vit.norm.weight.data[0] += 1
    with pytest.raises(UsageError, match="not the one of the saved state"):
        resume.restore(accelerator, tmp_path)


# ------------------------------------------------------------------ public files


def older(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under the names before the release."""
    out = {}
    for key, value in state.items():
        head, net, rest = key.partition("dist_net.")
        first, dot, tail = rest.partition(".")
        names = {new: OLDER[ours] for ours, new in LISTS.items()}
        out[f"{head}ladder_net.{names.get(first, first)}{dot}{tail}" if net else key] = value
    return out


def named_model() -> DistModel:
    model = small_dist(clip_like_vit())
    model.tower.vit.head.bias.data.zero_()
    model.name = "dist-b16"
    return model


def test_public_names_and_shapes() -> None:
    state = write_layout(named_model(), "dist")
    root = "backbone.base_encoder."
    assert all(key.startswith(root) for key in state)
    shapes = {key.removeprefix(root): tuple(value.shape) for key, value in state.items()}
    net = "dist_net."
    assert shapes[f"{net}temporal_stem.weight"] == (16, 3, 5, 16, 16)
    assert shapes[f"{net}temporal2integration_nets.0.cls_token"] == (1, 1, 2, 64)
    assert shapes[f"{net}temporal2integration_nets.2.linear_fuse.weight"] == (64, 16, 2, 1, 1)
    assert shapes[f"{net}integration2temporal_nets.1.linear_fuse.weight"] == (16, 64)
    assert shapes[f"{net}temporal_nets.0.temporal_net.c_fc1.weight"] == (16, 16, 3, 1, 1)
    assert shapes[f"{net}temporal_nets.0.temporal_net.c_fc2.weight"] == (16, 16, 1, 3, 3)
    assert shapes[f"{net}integration_nets.0.temporal_ffn.c_proj.weight"] == (64, 16, 1, 1, 1)
    assert shapes[f"{net}adapooling_nets.1.positional_embedding"] == (1, 2, 64)
    assert shapes[f"{net}proj"] == (64, 64)
    assert shapes["visual.class_embedding"] == (48,)
    assert shapes["visual.positional_embedding"] == (5, 48)
    assert shapes["visual.transformer.resblocks.2.attn.in_proj_weight"] == (144, 48)
    assert shapes["visual.proj"] == (48, 64)


@torch.no_grad()
@pytest.mark.parametrize("names", ["dist_net", "ladder_net"])
@pytest.mark.parametrize("root", ["backbone.base_encoder.", ""])
def test_a_public_file_comes_back(names: str, root: str) -> None:
    model, twin = named_model(), named_model()
    state = write_layout(model, "dist")
    state = older(state) if names == "ladder_net" else state
    state = {key.replace("backbone.base_encoder.", root): v for key, v in state.items()}
    state[f"{root}transformer.resblocks.0.ln_1.weight"] = torch.zeros(2)
    state[f"{root}logit_scale"] = torch.tensor(4.6)
    imported = read_layout(twin, state, Found("dist", "dist-b16", 0))
    assert len(imported.leftovers) == 2 and not (imported.missing or imported.unexpected)
    video = clips(1)
    assert torch.equal(twin(video), model(video))


def test_what_a_public_file_is() -> None:
    """By shapes alone, and for other numbers of frames."""
    with torch.device("meta"):
        model = vidinit.create_model("dist-b16", frames=32, pools=4)
    model.tower.vit.head.bias = torch.nn.Parameter(torch.zeros(512), requires_grad=False)
    state = write_layout(model, "dist")
    side = [key for key in state if "dist_net" in key]
    assert (len(side), len(state) - len(side)) == (433, 152)
    for public in (state, older(state)):
        found = recognize(public)
        assert found is not None and (found.layout, found.target) == ("dist", "dist-b16")
        assert (found.num_classes, found.options) == (0, {"pools": 4})
        assert found.clip == {"frames": 32, "size": 224}
    stem = "backbone.base_encoder.dist_net.temporal_stem.weight"
    broken = recognize({**state, stem: torch.empty(96, 3, 5, 14, 14, device="meta")})
    assert broken is not None and "its stem has patches of 14 pixels" in broken.refusal


def test_models_that_the_layout_cannot_hold() -> None:
    model = named_model()
    model.reset_head(3)
    with pytest.raises(UsageError, match="linear head"):
        write_layout(model, "dist")
    model = named_model()
    model.tower.vit.head.bias.data[0] = 1.0
    with pytest.raises(UsageError, match="no bias"):
        write_layout(model, "dist")
    model = small_dist()
    model.name = "dist-b16"
    with pytest.raises(UsageError, match="no CLIP of OpenAI's"):
        write_layout(model, "dist")


@pytest.mark.slow
def test_a_released_file_by_command(tmp_path: Path) -> None:
    """Full size; a file of 16 frames for the tower is read for 8."""
    model = vidinit.create_model("dist-b16", frames=32)
    model.tower.vit.head.bias.data.zero_()
    torch.save({"model_state": older(write_layout(model, "dist"))}, tmp_path / "d.pyth")
    out = tmp_path / "m"
    args = ("convert", tmp_path / "d.pyth", "--to", "dist-b16", "--frames", "16", "--out", out)
    done = json_of(run_cli(*args, "--json"))
    assert (done["exact"], done["max_difference"], done["frames"]) == (None, None, 16)
    assert load(out).spec.frames == 16
    done = run_cli("export", out, "--layout", "dist", "--out", tmp_path / "back.pth")
    assert done.returncode == 0, done.stderr
    back = torch.load(tmp_path / "back.pth")
    a_layer_of_pools = 2 * (2 + 4 + 2 + 4) + 1
    assert len(back) == 433 - 2 * a_layer_of_pools + 152
