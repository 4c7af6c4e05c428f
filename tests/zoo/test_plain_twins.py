"""The first stage of STS: its graphs with ordinary kernels, and what the second takes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vidinit
from vidinit.checkpoint import save_model
from vidinit.pipelines.shared.init_from import initialize

TWINS = {  # of which all tensors but the head's are taken: backbone keys of the released files
    "sts-slowonly-r50": ("slowonly-r50", 318),
    "sts-slowfast-r50-4x16": ("plain-slowfast-r50-4x16", 640),
    "sts-slowfast-r50-8x8": ("plain-slowfast-r50-8x8", 640),
    "sts-r2plus1d-34": ("plain-r2plus1d-34", 432),
    "sts-ir-csn-50": ("plain-ir-csn-50", 318),
    "sts-x3d-s": ("plain-x3d-s", 566),  # with the head's fc1.weight; the released fc1.bias has none
}
COUNTS = {  # parameters with the 1000 classes of ImageNet, facts of the released image networks
    "slowonly-r50": 33_683_496,
    "plain-slowfast-r50-4x16": 35_862_288,
    "plain-slowfast-r50-8x8": 35_948_560,
    "plain-r2plus1d-34": 64_067_081,
    "plain-ir-csn-50": 14_360_552,
    "plain-x3d-s": 5_025_770 - 2048,  # without fc1.bias, which the video network has not
}


@pytest.mark.parametrize("name", TWINS)
def test_every_sts_graph_has_a_plain_twin_with_its_keys(name: str) -> None:
    twin, kept = TWINS[name]
    with torch.device("meta"):
        sts = vidinit.create_model(name, num_classes=400).state_dict()
        plain = vidinit.create_model(twin, num_classes=1000)
    own = plain.state_dict()
    assert sum(p.numel() for p in plain.parameters()) == COUNTS[twin]
    assert sts.keys() == own.keys()
    same = [key for key in sts if sts[key].shape == own[key].shape and key[:5] != "head."]
    assert len(same) + 2 == len(sts) and len(same) == kept


@pytest.mark.parametrize(
    "name", ["plain-x3d-s", pytest.param("plain-slowfast-r50-8x8", marks=pytest.mark.slow)]
)
def test_of_an_image_a_kernel_sees_its_middle_tap(name: str) -> None:
    """As the paper's first stage has it: what the other taps are changes nothing."""
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=7).eval()
    image = torch.rand(1, 3, 1, 64, 64)
    changed = 0
    with torch.no_grad():
        before = model(image)
        for weight in model.parameters():
            # Of depthwise kernels (C, 1, t, k, k), and of temporal ones (O, C, t, 1).
            volume = weight.dim() == 5 and weight.shape[2] > 1
            if volume or (weight.dim() == 4 and weight.shape[2] > weight.shape[3] == 1):
                middle = weight.shape[2] // 2
                others = [tap for tap in range(weight.shape[2]) if tap != middle]
                weight[:, :, others] = torch.randn_like(weight[:, :, others])
                changed += 1
        assert torch.equal(model(image), before)
        assert not torch.equal(model(image.expand(-1, -1, 32, -1, -1)), before)
    assert changed > 25


def carried(first: str, second: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `--init-from` says of a video model that starts from a run on images."""
    torch.manual_seed(0)
    images = vidinit.create_model(first, num_classes=10)
    images.classes = [f"picture {i}" for i in range(10)]
    save_model(images, tmp_path / "images")
    model = vidinit.create_model(second, num_classes=5)
    model.classes = [f"action {i}" for i in range(5)]
    capsys.readouterr()
    initialize(model, str(tmp_path / "images"))
    own, given = model.state_dict(), images.state_dict()
    assert all(torch.equal(own[key], given[key]) for key in own if not key.startswith("head."))
    return capsys.readouterr().err


def test_the_second_stage_takes_all_but_the_head(tmp_path, capsys):
    said = carried("plain-x3d-s", "sts-x3d-s", tmp_path, capsys)
    assert "566 of the 568 tensors of sts-x3d-s; as new: head.weight, head.bias" in said


@pytest.mark.slow
def test_the_second_stage_of_the_paper_in_full(tmp_path, capsys):
    """`vidinit finetune sts-r3d50 --init-from runs/slowonly-r50_in1k`."""
    said = carried("slowonly-r50", "sts-r3d50", tmp_path, capsys)
    assert "318 of the 320 tensors of sts-r3d50; as new: head.weight, head.bias" in said
