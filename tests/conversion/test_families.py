"""One architecture of every timm family, by every plan: never a crash, never a file to blame."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from conversion.families import (
    FAULTS,
    SMALLEST,
    Result,
    account,
    convert,
    families,
    reason_of,
    smallest,
    sweep,
    table,
)

import vidinit
from vidinit.zoo.names import PLANS

SLOW = pytest.mark.slow
ON_A_TOWER = {"st-adapter", "aim", "zero-cost", "side4video"}
TAKEN_BY = {
    "resnet": {"c2d", "i3d", "s3d", "sts", "tsm"},
    "vision_transformer": {"c2d", "dist", "timesformer", *ON_A_TOWER},
    "efficientvit_msra": {"c2d"},
    "pit": {"c2d", "i3d", "s3d", "tsm"},
}
"""Some families, and the plans that are defined for them."""


def checked(result: Result) -> Result:
    """A result without faults; refusals are about the network and the plan."""
    assert result.kind not in FAULTS, result
    if result.kind == "refused":
        assert result.arch in result.text
        about = ("plan ", "plain vision transformer", "cannot be a tower", "attend over time")
        assert any(words in result.text for words in about), result.text
    return result


@pytest.mark.parametrize(
    "family",
    ["resnet", "vision_transformer", "pit", pytest.param("efficientvit_msra", marks=SLOW)],
)
def test_every_tensor_has_its_place(family):
    arch = families()[family]
    kinds = {plan: checked(account(family, arch, plan)).kind for plan in PLANS}
    assert {plan for plan, kind in kinds.items() if kind == "exact"} == TAKEN_BY[family]


@SLOW
@pytest.mark.parametrize("family", sorted(set(families()) - set(TAKEN_BY)))
def test_every_tensor_of_every_family_has_its_place(family):
    results = [checked(account(family, families()[family], plan)) for plan in PLANS]
    assert results[list(PLANS).index("c2d")].kind == "exact" or family in NO_C2D


NO_C2D: set[str] = set()
"""Families that do not make one vector of an image."""


@pytest.mark.parametrize(
    ("family", "plan", "kind"),
    [
        ("resnet", "sts", "exact"),
        ("resnet", "tsm", "by design"),
        ("vision_transformer", "timesformer", "exact"),
        ("vision_transformer", "i3d", "refused"),
    ],
)
def test_conversions_are_exact_or_told_why_not(family, plan, kind):
    assert checked(convert(family, families()[family], plan)).kind == kind


@SLOW
@pytest.mark.parametrize("family", sorted(families()))
def test_conversions_of_every_family(family):
    for plan in PLANS:
        assert checked(convert(family, families()[family], plan)).kind != "not told"


@SLOW
def test_blocks_that_share_a_tensor(tmp_path):
    report = vidinit.convert("coat_tiny", "i3d", pretrained=False, frames=2, out=tmp_path / "model")
    model = vidinit.load(tmp_path / "model").eval()
    assert report.exact and model.trunk.cpe1 is model.trunk.serial_blocks1[1].cpe
    clip = torch.randn(1, 3, 2, 224, 224)
    with torch.no_grad():
        assert torch.equal(model(clip), report.model(clip))


def test_all_of_timms_families_are_there():
    found = families()
    assert len(found) > 90 and set(found) >= {"resnet", "levit", "crossvit", "swiftformer"}
    assert all(timm.is_model(arch) for arch in found.values())
    assert smallest(["resnet34", "resnet18", "resnet26"]) == "resnet18" == smallest(["resnet18"])
    assert {timm.models._registry._model_to_module[arch] for arch in SMALLEST.values()} == set(
        SMALLEST
    )


def test_a_stopped_sweep_goes_on(tmp_path):
    done = Result("resnet", families()["resnet"], "i3d", "exact", "from the file")
    out = tmp_path / "sweep.jsonl"
    out.write_text(json.dumps(vars(done)) + "\n")
    results = sweep(["resnet"], ["i3d", "timesformer"], out)
    assert results[0] == done and results[1].kind == "refused"
    assert len(out.read_text().splitlines()) == 2
    assert sweep(["resnet"], ["i3d", "timesformer"], out) == results


def test_the_table_counts_and_names_what_is_at_fault():
    results = [
        Result("a", "a_1", "i3d", "refused", "plan i3d finds nothing in a_1; use --to c2d"),
        Result("b", "b_2", "i3d", "refused", "plan i3d finds nothing in b_2; use --to c2d"),
        Result("b", "b_2", "c2d", "crash", "KeyError: 'x'"),
    ]
    assert reason_of(results[0]) == reason_of(results[1]) == "plan i3d finds nothing in X"
    text = "\n".join(table(results))
    assert "| `i3d` | 0 | 0 | 0 | 2 | 0 | 0 |" in text
    assert "| b | `b_2` | refused | crash |" in text
    assert text.endswith("crash: b_2 by c2d: KeyError: 'x'")
