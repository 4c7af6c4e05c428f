from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from support import MODEL

import vidinit
from vidinit import checkpoint, files
from vidinit.errors import UsageError
from vidinit.pipelines.finetune.task import ClassifyTask


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = vidinit.create_model(MODEL, num_classes=3, frames=5).eval()
    model.classes = ["a", "b", "c"]
    heads = {"other": torch.nn.Linear(model.num_features, 2)}
    folder = tmp_path_factory.mktemp("saved") / "model"
    classes = {"first": ["a", "b", "c"], "other": ["x", "y"]}
    checkpoint.save_model(model, folder, heads=heads, head_classes=classes)
    return model, heads, folder


def test_round_trip(saved):
    model, heads, folder = saved
    assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "model.yaml"]
    clip = torch.randn(2, 3, 5, 32, 32)
    loaded = vidinit.load(folder)
    assert (loaded.classes, loaded.spec.frames, loaded.training) == (["a", "b", "c"], 5, False)
    assert torch.equal(loaded(clip), model(clip))
    assert torch.equal(vidinit.load(folder, head="first")(clip), model(clip))
    other = vidinit.load(folder, head="other")
    assert other.classes == ["x", "y"]
    assert torch.equal(other(clip), heads["other"](model.embed(clip)))


def test_the_kind_of_labels_is_recorded(saved, tmp_path):
    model = vidinit.create_model(MODEL, num_classes=2)
    ClassifyTask(model, kind="multi")
    folder = checkpoint.save_model(model, tmp_path / "multi")
    assert yaml.safe_load((folder / checkpoint.CARD).read_text())["kind"] == "multi"
    loaded = vidinit.load(folder)
    assert loaded.label_kind == "multi"
    loaded.reset_head(5)
    assert loaded.label_kind == "single"
    assert vidinit.load(saved[2]).label_kind == "single"
    with pytest.raises(UsageError, match="no head of nouns"):
        checkpoint.load_pair(folder)


def test_a_folder_of_before_there_were_kinds(saved, tmp_path):
    _, _, folder = saved
    card = yaml.safe_load((folder / checkpoint.CARD).read_text())
    assert card.pop("kind") == "single" and card["clip"].pop("sampling") == "dense"
    weights = (folder / checkpoint.WEIGHTS).read_bytes()
    old = {checkpoint.WEIGHTS: weights, checkpoint.CARD: yaml.safe_dump(card).encode()}
    files.write_folder(tmp_path / "old", old)
    loaded = vidinit.load(tmp_path / "old")
    assert (loaded.label_kind, loaded.spec.sampling) == ("single", "dense")


def test_pairs_keep_both_heads(tmp_path):
    model = vidinit.create_model(MODEL, num_classes=3)
    model.classes = ["cut", "open", "wash"]
    model.spec = replace(model.spec, sampling="uniform")
    task = ClassifyTask(model, kind="pair", nouns=["cup", "pan"]).eval()
    folder = checkpoint.save_model(model, tmp_path / "pair", **task.save_options())
    clip = torch.randn(2, 3, 4, 32, 32)
    want = task.classifier()(clip)
    loaded = checkpoint.load_pair(folder)
    assert (loaded.model.classes, loaded.nouns) == (["cut", "open", "wash"], ["cup", "pan"])
    assert (loaded.model.label_kind, loaded.model.spec.sampling) == ("pair", "uniform")
    assert not loaded.training and not loaded.model.training
    found = loaded(clip)
    assert all(torch.equal(found[name], want[name]) for name in ("verb", "noun"))
    assert torch.equal(vidinit.load(folder)(clip), want["verb"])
    noun = vidinit.load(folder, head="noun")
    assert (noun.classes, noun.label_kind) == (["cup", "pan"], "single")
    assert torch.equal(noun(clip), want["noun"])
    assert "&id" not in (folder / checkpoint.CARD).read_text(), "lists are written out"


def test_a_run_folder_stands_for_its_model(saved):
    _, _, folder = saved
    assert checkpoint.model_folder(folder.parent) == folder
    assert checkpoint.model_folder("r3d50") is None


def test_wrong_references(saved, tmp_path):
    _, _, folder = saved
    with pytest.raises(UsageError, match="no head 'third'; it has first, other"):
        vidinit.load(folder, head="third")
    with pytest.raises(UsageError, match="no model or run folder"):
        vidinit.load(tmp_path)
    shutil.copytree(folder, tmp_path / "set" / "one" / "model")
    with pytest.raises(UsageError, match=r"holds runs: name one of them, as .*/set/one$"):
        vidinit.load(tmp_path / "set")
    with pytest.raises(UsageError, match="no such model folder"):
        vidinit.load(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"unknown model.*did you mean 'r3d50'"):
        checkpoint.model_folder("r3d5O")
    with pytest.raises(UsageError, match="is a zoo name, not a folder"):
        vidinit.load("r3d50")


def test_damaged_folders(saved, tmp_path):
    _, _, folder = saved
    weights, card = (folder / name for name in (checkpoint.WEIGHTS, checkpoint.CARD))

    def with_files(name: str, content: bytes, described: str):
        place = tmp_path / name
        files.write_folder(
            place, {checkpoint.WEIGHTS: content, checkpoint.CARD: described.encode()}
        )
        return place

    cut = with_files("cut", weights.read_bytes()[:1000], card.read_text())
    with pytest.raises(UsageError, match=r"cannot read .*safetensors"):
        vidinit.load(cut)
    newer = yaml.safe_load(card.read_text()) | {"format": 99}
    with pytest.raises(UsageError, match="damaged or newer"):
        vidinit.load(with_files("newer", weights.read_bytes(), yaml.safe_dump(newer)))
    other = yaml.safe_load(card.read_text()) | {"name": "c2d-mobilenetv2_050"}
    with pytest.raises(UsageError, match="do not fit the model"):
        vidinit.load(with_files("other", weights.read_bytes(), yaml.safe_dump(other)))


def test_a_failed_write_leaves_the_old_folder(saved, tmp_path, monkeypatch):
    place = tmp_path / "model"
    files.write_folder(place, {"a": b"old"})
    with pytest.raises(TypeError):
        files.write_folder(place, {"a": b"new", "b": None})
    assert (place / "a").read_bytes() == b"old"
    files.write_folder(place, {"a": b"new"})
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (place / "a").read_bytes() == b"new"


def test_out_folders(tmp_path):
    assert files.check_out(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        files.check_out(tmp_path / "file")
    with pytest.raises(UsageError, match=r"not empty.*--overwrite"):
        files.check_out(tmp_path)
    with pytest.raises(UsageError, match=r"would delete .*file, which vidinit did not write"):
        files.check_out(tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="holds no run to resume"):
        files.check_out(tmp_path, resume=True)
    (tmp_path / "file").rename(tmp_path / "model.yaml")
    assert files.check_out(tmp_path, overwrite=True) == tmp_path
