"""The model card: what it tells of a run, and what it keeps to itself."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

import vidinit
from vidinit.checkpoint import save_model
from vidinit.exports.card import model_card, names_only, run_of
from vidinit.zoo.detector import DetectSettings, as_detector


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_card_of_a_run(trained: Path, motion_set: Path):
    card = model_card(trained / "model", "me/motion", parameters=1_234_567)
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "vidinit" and front["pipeline_tag"] == "video-classification"
    assert "license" not in front
    assert "# motion\n" in card and "1.23 M parameters" in card
    assert "vidinit predict hf-hub:me/motion VIDEO" in section(card, "Use")
    assert "| mean | 0.485, 0.456, 0.406 |" in section(card, "Input")
    result = json.loads((trained / "result.json").read_text())
    data = section(card, "Data")
    assert f"| training | {motion_set.name} |" in data and "| files found | 18 |" in data
    assert f"| videos trained on | {result['videos']} |" in data
    recipe = section(card, "Recipe")
    settings = yaml.safe_load(recipe.partition("```yaml\n")[2].partition("```")[0])
    assert settings["train"] == {
        "epochs": 2,
        "lr": 0.01,
        "lr_batch": None,
        "optimizer": "sgd",
        "weight_decay": 0.0001,
        "seed": 0,
    }
    assert settings["data"]["frames"] == 4 and "flip" not in settings["data"]
    step = vidinit.load(trained).lineage[-1]
    assert f"| top-1 accuracy | {step['top1']:.4f} |" in section(card, "Figures")
    assert "1. finetune: data" in section(card, "Lineage")
    limits = section(card, "Limits")
    assert "one of 2 classes for any video" in limits and "4 frames of 32 x 32" in limits
    assert "figures flatter" in limits
    assert "`left`, `right`" in section(card, "Classes")
    assert str(motion_set.parent) not in card


def test_the_card_of_a_detector(tmp_path: Path):
    trunk = vidinit.create_model("c2d-test_resnet", num_classes=70)
    model = as_detector(trunk, ["run", "sit"], DetectSettings(kind="single"))
    card = model_card(save_model(model, tmp_path / "mine"), "me/mine", parameters=5)
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "object-detection"
    assert "a detector of 2 actions in boxes" in card and "70" not in card
    assert "model(clips, boxes)" in section(card, "Use")
    assert "one class, or none, of 2" in section(card, "Limits")
    assert "`run`, `sit`" in section(card, "Classes")


def test_the_card_of_a_folder_alone(tmp_path: Path):
    model = vidinit.create_model("c2d-resnet10t", num_classes=70)
    model.classes = [f"a|{i}" for i in range(70)]
    model.label_kind = "multi"
    model.lineage = [{"step": "convert", "source": "resnet10t", "weights": "/x/a|b.pth"}]
    folder = save_model(model, tmp_path / "mine")
    card = model_card(folder, "me/mine", parameters=5)
    assert "## Data" not in card and "## Recipe" not in card and "## Figures" not in card
    assert "No run lies beside the model" in section(card, "Limits")
    assert "each of 70 labels a probability of its own" in section(card, "Limits")
    assert "source resnet10t; weights a\\|b.pth" in section(card, "Lineage")
    assert "`a|59`, and 10 more, in model.yaml" in section(card, "Classes")


def test_files_left_out_and_sources_of_a_cotraining_are_told(tmp_path: Path):
    model = vidinit.create_model("c2d-resnet10t", num_classes=2)
    folder = save_model(model, tmp_path / "run" / "model")
    config = {
        "command": "cotrain",
        "model": "x",
        "data": {"train": None},
        "sources": [{"data": "/videos/a"}, {"data": "/videos/b", "val": "/videos/c"}],
    }
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    health = {"files": 9, "good": 7, "bad": [{}, {}]}
    (tmp_path / "run" / "data_health.json").write_text(json.dumps(health))
    assert run_of(folder) == tmp_path / "run" and run_of(tmp_path) is None
    card = model_card(folder, "me/x", parameters=5)
    data = section(card, "Data")
    assert "| training | a |\n| training | b |\n| validation | c |" in data
    assert "2 files could not be read" in section(card, "Limits") and "/videos" not in card


def test_only_paths_are_shortened(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips" / "train").mkdir(parents=True)
    given = {"a": ["/data/k400", "clips/train"], "b": "hf-hub:timm/x", "c": 3, "d": "", "e": "a/b"}
    want = {"a": ["k400", "train"], "b": "hf-hub:timm/x", "c": 3, "d": "", "e": "a/b"}
    assert names_only(given) == want
