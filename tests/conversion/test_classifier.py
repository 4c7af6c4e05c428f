"""Classifiers of every kind on their way into a head, held against timm from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import vidinit
from vidinit.conversion.report import ConversionReport


def trained(name: str, classes: int) -> nn.Module:
    """An image network whose norms, biases and statistics tell, as training would leave them."""
    torch.manual_seed(0)
    image: Any = timm.create_model(name, num_classes=classes)
    size = image.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        for key, parameter in image.named_parameters():
            if parameter.dim() < 2:
                center = 1.0 if key.endswith("weight") else 0.0
                parameter.copy_(center + 0.2 * torch.randn_like(parameter))
            elif key.endswith("attention_biases"):
                parameter.normal_(std=0.5)
        for module in image.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.momentum = 1.0
        image(torch.randn(4, 3, size, size))
    return image.eval()


def converted(name: str, plan: str, folder: Path, **options) -> ConversionReport:
    """A conversion whose model folder is held against timm's logits, where it keeps its classes."""
    image = trained(name, 7)
    torch.save(image.state_dict(), folder / "image.pth")
    out = folder / "model"
    report = vidinit.convert(name, plan, weights=folder / "image.pth", frames=2, out=out, **options)
    model = vidinit.load(out).eval()
    if model.num_classes == 7:
        frames = torch.randn(2, 3, model.spec.size, model.spec.size)
        with torch.no_grad():
            got, want = model(frames.unsqueeze(2).expand(-1, -1, 2, -1, -1)), image(frames)
        assert (got - want).abs().max() < 1e-4 * (want[0] - want[1]).abs().max()
    assert sum(row.tensors for row in report.rows) == len(model.state_dict())
    return report


def head_rows(report: ConversionReport) -> set[tuple[str, str]]:
    return {(row.rule, row.kind) for row in report.rows if row.stage == "head"}


def test_a_norm_before_the_classifier_is_folded_in(tmp_path):
    report = converted("efficientvit_m0", "c2d", tmp_path)
    assert report.exact
    assert ("classifier, the norm before it folded in", "copied") in head_rows(report)
    assert "the norm in the classifier of efficientvit_m0 is folded into the head" in report.notes


@pytest.mark.slow
def test_two_classifiers_become_their_mean(tmp_path):
    report = converted("levit_128s", "c2d", tmp_path)
    assert report.exact
    assert ("classifiers of the image network as one", "copied") in head_rows(report)
    assert any(note.startswith("the 2 classifiers of levit_128s are one") for note in report.notes)


def test_two_class_tokens_stand_side_by_side(tmp_path):
    report = converted("deit_tiny_distilled_patch16_224", "c2d", tmp_path)
    assert report.exact and report.model.head.in_features == 2 * 192
    assert any("2 class tokens side by side" in note for note in report.notes)
    with torch.no_grad():
        tokens = report.model.tokens(torch.randn(1, 3, 2, 224, 224))
    assert tokens.shape == (1, 2 * 196, 2 * 192)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("pit_ti_distilled_224", "s3d"),
        ("repvit_m0_9", "i3d"),
        ("shvit_s1", "c2d"),
        ("crossvit_tiny_240", "c2d"),
        ("efficientvim_m1", "c2d"),
        ("swiftformer_xs", "c2d"),
    ],
)
def test_other_kinds_are_exact_too(name, plan, tmp_path):
    assert converted(name, plan, tmp_path).exact


@pytest.mark.slow
@pytest.mark.parametrize("name", ["levit_128s", "deit_tiny_distilled_patch16_224"])
def test_a_new_head_takes_the_place_of_any_classifier(name, tmp_path):
    report = converted(name, "c2d", tmp_path, num_classes=5)
    assert report.exact and report.model.num_classes == 5
    assert ("new, for 5 classes", "initialized") in head_rows(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["volo_d1_224", "caformer_s18"])
def test_a_classifier_that_is_not_linear_is_left_out(name, tmp_path):
    report = converted(name, "c2d", tmp_path)
    assert report.exact and report.model.num_classes == 400 and report.model.classes is None
    assert head_rows(report) >= {("random", "initialized")}
    (note,) = [note for note in report.notes if "left out" in note]
    assert note.startswith(f"the classifier of {name} ")
    assert "features are compared, the head is random" in note
