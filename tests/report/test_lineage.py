from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from report.browsing import Reader

import vidinit
from vidinit.report.model_parts import (
    cost_sections,
    kernel_sections,
    lineage_sections,
    model_sections,
)
from vidinit.zoo.build import create_model


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "m"
    vidinit.convert("mobilenetv2_050", "s3d", pretrained=False, frames=4, size=32, out=out)
    return out


def later_run(root: Path, model: Path, *, lineage: int) -> Path:
    """A run folder as far as a report reads it; its model's card has no conversion of its own."""
    card = yaml.safe_load((model / "model.yaml").read_text())
    card.pop("conversion", None)
    card["lineage"] = [*card["lineage"], *[{"step": "finetune", "top1": 0.5}] * lineage]
    (root / "model").mkdir(parents=True)
    for name in ("model.safetensors", "model.yaml"):
        (root / "model" / name).write_bytes((model / name).read_bytes())
    (root / "model" / "model.yaml").write_text(yaml.safe_dump(card))
    (root / "config.yaml").write_text(yaml.safe_dump({"model": str(model)}))
    return root


def test_a_conversion_has_a_report_of_its_own(converted: Path) -> None:
    text = (converted / "report.html").read_text(encoding="utf-8")
    read = Reader(text)
    assert read.texts["h1"] == ["mobilenetv2_050 to s3d-mobilenetv2_050"]
    assert read.texts["h2"] == ["Proof", "Costs", "Conversion", "Temporal kernels"]
    assert "exact" in read.texts["td"] and "identity kernel" in read.texts["td"]
    assert "not exact" not in text and "data:image/png" in text
    assert [file.name for file in converted.glob(".*")] == [".vidinit"]


def test_a_video_checkpoint_is_no_proof_and_leftovers_are_named(
    converted: Path, tmp_path: Path
) -> None:
    from vidinit.pipelines.convert import conversion_page

    report = vidinit.convert("mobilenetv2_050", "s3d", pretrained=False, frames=4, size=32)
    report.proof, report.layout, report.leftovers = None, "timm", ["a.<b>"]
    text = conversion_page(report)
    assert "Read from the layout timm" in text and "a.&lt;b&gt;" in text
    assert "Read: " in text[: text.index("<h2>")]
    report = vidinit.convert("mobilenetv2_050", "tsm", pretrained=False, frames=4, size=32)
    read = Reader(conversion_page(report))
    assert read.texts["p"][1] == "Not exact on a still clip"
    assert "not exact" in read.texts["td"] and "Temporal kernels" not in read.texts["h2"]


def test_runs_tell_of_the_conversion_at_their_beginning(converted: Path, tmp_path: Path) -> None:
    first = later_run(tmp_path / "first", converted, lineage=1)
    second = later_run(tmp_path / "second", first / "model", lineage=1)
    (second / "config.yaml").write_text(yaml.safe_dump({"model": str(first)}))
    steps, table = lineage_sections(second, str(first))
    cells = Reader(steps.body).texts["td"]
    assert cells[1] == "convert" and cells[5] == "finetune" and cells[6] == "top1 0.5"
    assert cells[3].startswith("exact, largest difference ") and cells[7] == "–"  # noqa: RUF001
    assert "source mobilenetv2_050" in cells[2] and "max_difference" not in cells[2]
    assert table.title == "Conversion" and "identity kernel" in table.body
    assert "314 copied, 18 initialized" in table.note
    # An evaluation has no model of its own.
    assert [s.title for s in lineage_sections(tmp_path, str(converted))] == [
        "Where the weights come from",
        "Conversion",
    ]


def test_where_nothing_is_known_nothing_is_said(converted: Path, tmp_path: Path) -> None:
    assert lineage_sections(tmp_path, None) == []
    assert lineage_sections(tmp_path, "r2plus1d-18") == []
    run = later_run(tmp_path / "run", converted, lineage=0)
    (run / "config.yaml").write_text(yaml.safe_dump({"model": str(run)}))  # of itself
    assert [s.title for s in lineage_sections(run, str(run))] == ["Where the weights come from"]
    (run / "model" / "model.yaml").write_text("format: 99")
    assert lineage_sections(run, None) == []


def test_what_a_model_costs_and_looks_at(converted: Path, tmp_path: Path) -> None:
    model = vidinit.load(converted)
    costs, kernels = model_sections(converted, model)
    cells = Reader(costs.body).texts["td"]
    assert cells[:2] == ["s3d-mobilenetv2_050", "4x32"] and "trunk.conv_stem" in cells
    assert Reader(kernels.body).texts["td"][:4] == ["after training", "all", "1", "0.6667"]
    assert model_sections(tmp_path, model) == [], "no model was kept"
    assert kernel_sections({"c2d": create_model("tsm-r50", num_classes=2)}) == []
    row = {"model": "<m>", "params": 10, "gmacs": 1.0, "gflops": 2.0, "frames": 8, "size": 64}
    assert "&lt;m&gt;" in cost_sections([row])[0].body
