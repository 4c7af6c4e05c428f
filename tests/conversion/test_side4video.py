from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from adapter_files import Sizes
from safetensors.torch import load_file
from side4video_files import Paper, side4video_file
from support import json_of, run_cli

from vidinit.checkpoint import load
from vidinit.conversion.layouts.read_write import recognize, write_layout
from vidinit.errors import UsageError
from vidinit.pipelines.convert import convert
from vidinit.zoo.adapters.side_model import SideModel
from vidinit.zoo.build import create_model
from vidinit.zoo.images.networks import load_image_model

SIZES = Sizes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file as training leaves it, and its tensors."""
    content = side4video_file(SIZES)
    path = tmp_path_factory.mktemp("files") / "model_best.pt"
    torch.save(content, path)
    return path, content["model_state_dict"]


def clips(count: int = 2, frames: int = 4, side: int = SIZES.side) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randn(count, 3, frames, side, side)


@torch.no_grad()
def test_a_files_logits(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    """Ours from the file, and its equations in plain torch, in eval and in train mode."""
    path, state = saved
    report = convert(str(path), "side4video-b16")
    model = report.model
    assert isinstance(model, SideModel) and not (report.leftovers or report.missing)
    assert model.num_classes == SIZES.classes and model.options["fusion"] == "none"
    for frames in (4, 1, 7):
        want = Paper(state).logits(clips(frames=frames))
        assert (model(clips(frames=frames)) - want).abs().max() < 1e-5
    assert want.std() > 0.1
    want = Paper(state, training=True).logits(clips(3))
    assert (model.train()(clips(3)) - want).abs().max() < 1e-5


def test_a_file_comes_back_as_it_was(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, state = saved
    back = write_layout(convert(str(path), "side4video-b16").model, "side4video")
    assert set(back) == set(state)
    for key, value in state.items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value), key


@pytest.mark.parametrize(
    ("sizes", "more", "options"),
    [
        (Sizes(width=64, depth=3, patch=4, grid=4), {"width": 128}, {"width": 128}),
        (Sizes(depth=3), {"blocks": 2}, {"cut": "top:2"}),
        (Sizes(), {"wrapped": True}, {}),
    ],
    ids=["other sizes", "fewer side blocks", "several processes"],
)
@torch.no_grad()
def test_other_files(
    sizes: Sizes, more: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    content = side4video_file(sizes, **more)
    torch.save(content, tmp_path / "last_model.pt")
    report = convert(str(tmp_path / "last_model.pt"), "side4video-b16")
    state = {k.removeprefix("module."): v for k, v in content["model_state_dict"].items()}
    clip = clips(2, 3, sizes.side)
    assert (report.model(clip) - Paper(state).logits(clip)).abs().max() < 1e-5
    assert {**report.model.options, **options} == report.model.options
    assert any("does not tell which" in note for note in report.notes) == ("cut" in options)
    back = write_layout(report.model, "side4video")
    assert all(torch.equal(back[key], value) for key, value in state.items())


def test_what_a_published_file_is() -> None:
    """By shapes alone: nothing has to be said about files of the published sizes."""
    for name, depth in (("side4video-b16", 12), ("side4video-l14", 24)):
        with torch.device("meta"):
            state = write_layout(create_model(name, num_classes=174, fusion="none"), "side4video")
        assert len(state) == 5 + 13 + 2 + depth * (12 + 30)
        found = recognize(state)
        assert found is not None and (found.layout, found.target) == ("side4video", name)
        assert (found.num_classes, found.options, found.refusal) == (174, {"fusion": "none"}, "")
        assert found.clip == {"size": 224, "frames": 8, "sampling": "uniform"}
        assert any("does not tell its frames" in note for note in found.notes)
        root = "visual.transformer.side_transformer.0.conv."
        assert state[f"{root}1.weight"].shape[1:] == (1, 3, 1, 1)
        assert state["visual.side_conv1.weight"].dim() == 5


def test_a_side_network_without_its_tower(
    saved: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    alone = {k: v for k, v in saved[1].items() if "side_" in k or k.startswith("fc.")}
    torch.save({"model_state_dict": alone}, tmp_path / "side.pt")
    with pytest.raises(UsageError, match="its tower is not in it"):
        convert(str(tmp_path / "side.pt"), "side4video-b16")


def test_models_that_the_layout_cannot_hold() -> None:
    name = "side4video-vit_tiny_patch16_224"
    network = {"depth": 2, "embed_dim": 64, "num_heads": 1, "img_size": 32}
    for options, match in (({}, "reads the side network alone"), ({"fusion": "none"}, "CLIP")):
        model = create_model(name, num_classes=3, network=network, **options)
        with pytest.raises(UsageError, match=match):
            write_layout(model, "side4video")


@pytest.mark.slow
def test_by_command(saved: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    path, state = saved
    out = tmp_path / "m"
    done = json_of(run_cli("convert", path, "--to", "side4video-b16", "--out", out, "--json"))
    assert done["layout"] == "side4video"
    with torch.no_grad():
        assert (load(out)(clips()) - Paper(state).logits(clips())).abs().max() < 1e-5
    done = run_cli("export", out, "--layout", "side4video", "--out", tmp_path / "back.pth")
    assert done.returncode == 0, done.stderr
    back = torch.load(tmp_path / "back.pth")
    assert set(back) == set(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of timm's smallest transformer."""
    torch.manual_seed(0)
    vit = timm.create_model("test_vit", num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(vit.state_dict(), path)
    return path


def test_a_conversion_is_the_image_model_and_names_its_tower(weights: Path, tmp_path: Path) -> None:
    """By default; any clip of the folder's model gets the mean of the frames' logits."""
    options: dict[str, Any] = {"weights": weights, "size": 48, "whole": False}
    report = convert("test_vit", "side4video", out=tmp_path / "m", **options)
    assert report.exact and report.proof is not None and report.proof.isolated is None
    assert report.model.num_classes == 7
    kept = load_file(tmp_path / "m" / "model.safetensors")
    assert not [key for key in kept if key.startswith("tower.")] and "fuse_side.weight" in kept
    model = load(tmp_path / "m")
    assert isinstance(model, SideModel) and model.reference is not None
    image = load_image_model("test_vit", weights=weights).model
    image.set_input_size(img_size=(48, 48))  # type: ignore[operator]
    clip = clips(2, 5, 48)
    with torch.no_grad():
        want = image(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 5)).mean(dim=1)
        assert (model(clip) - want).abs().max() < 1e-6


def test_alone_the_side_network_gets_a_new_head(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    report = convert(
        "test_vit",
        "side4video@top:2",
        weights=weights,
        out=out,
        size=32,
        whole=False,
        fusion="none",
    )
    assert report.exact and report.proof is not None and report.proof.isolated
    assert any("the classifier of 7 classes is left out" in note for note in report.notes)
    model = load(out)
    assert isinstance(model, SideModel) and model.head.in_features == 64
    assert model.classes is None and len(model.side.blocks) == 2
    norm = model.side.norm
    assert int(norm.num_batches_tracked) == 0 and not norm.running_mean.any()  # type: ignore[arg-type, operator]
    clip = clips(2, 3, 32)
    with torch.no_grad():
        assert torch.equal(model(clip), report.model(clip))
