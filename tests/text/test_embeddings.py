"""The real tokenizer and a tiny text tower with random weights; skipped without open_clip."""

from __future__ import annotations

import json
from unittest import mock

import numpy as np
import pytest
import torch

from vidinit.errors import UsageError, VidinitError
from vidinit.text import embeddings, prompts, text_embeddings

CLASSES = ["ApplyEyeMakeup", "brush_hair", "jump"]


@pytest.fixture(scope="module")
def open_clip():
    return pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def tower(open_clip, tmp_path_factory) -> str:
    """``MODEL=FILE`` of a text tower of 2 layers, J = 12."""
    folder = tmp_path_factory.mktemp("tower")
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    config = {"embed_dim": 12, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (folder / "tiny-text.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-text").state_dict(), folder / "tiny.pt")
    return f"tiny-text={folder / 'tiny.pt'}"


def by_hand(open_clip, tower: str, texts: list[list[str]]) -> np.ndarray:
    """Each text through the tower alone; normalized, averaged, normalized."""
    name, _, file = tower.partition("=")
    model = open_clip.create_model(name, pretrained=file).eval()
    tokenize = open_clip.get_tokenizer(name)
    rows = []
    for group in texts:
        with torch.no_grad():
            found = np.stack([model.encode_text(tokenize([t]))[0].numpy() for t in group])
        mean = (found / np.linalg.norm(found, axis=1, keepdims=True)).mean(axis=0)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


@pytest.mark.parametrize("templates", ["raw", "action"])
def test_templates_are_averaged_on_the_sphere(open_clip, tower, templates):
    with mock.patch.object(embeddings, "_BATCH", 5):  # several forward passes
        table = text_embeddings(CLASSES, model=tower, templates=templates)
    want = by_hand(open_clip, tower, prompts(CLASSES, templates))
    assert table.dtype == torch.float32 and table.shape == (3, 12)
    np.testing.assert_allclose(table.numpy(), want, atol=1e-6)
    assert abs(want[0] @ want[1]) < 0.999  # classes differ


def test_a_table_is_computed_once(tower):
    first = text_embeddings(CLASSES, model=tower, templates="video")
    with mock.patch.object(embeddings, "_encode", side_effect=AssertionError):
        again = text_embeddings(CLASSES, model=tower, templates="video")
        words = text_embeddings(
            ["Apply Eye Makeup", "brush hair", "jump"], model=tower, templates="video"
        )
    assert torch.equal(first, again) and torch.equal(first, words)


def test_other_weights_or_texts_are_another_table(open_clip, tower, tmp_path):
    name, _, file = tower.partition("=")
    first = text_embeddings(CLASSES, model=tower)
    state = torch.load(file, weights_only=True)
    state["text_projection"] = state["text_projection"].flip(1)
    torch.save(state, tmp_path / "other.pt")
    other = text_embeddings(CLASSES, model=f"{name}={tmp_path / 'other.pt'}")
    assert torch.allclose(other, first.flip(1), atol=1e-6) and not torch.equal(other, first)
    # As many classes, other names: the count is no key.
    renamed = text_embeddings(["apple", "pear", "jump"], model=tower)
    assert torch.equal(renamed[2], first[2]) and not torch.allclose(renamed[:2], first[:2])


def test_a_damaged_table_is_computed_again(tower, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = text_embeddings(CLASSES, model=tower)
    (file,) = (tmp_path / "vidinit" / "text").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(text_embeddings(CLASSES, model=tower), first)
    assert torch.equal(text_embeddings(CLASSES, model=tower), first)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_cache_that_cannot_be_written_is_said(tower, tmp_path, monkeypatch):
    (tmp_path / "vidinit").write_text("a file is in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.warns(UserWarning, match="text embeddings are not kept"):
        text_embeddings(CLASSES, model=tower)


def test_no_network_is_one_line(open_clip):
    with (
        mock.patch.object(open_clip, "download_pretrained", side_effect=OSError("no route")),
        pytest.raises(VidinitError) as told,
    ):
        text_embeddings(CLASSES, model="vit_base_patch16_clip_224.openai")
    assert "could not get the text tower ViT-B-16-quickgelu/openai" in str(told.value)
    assert "file of text embeddings" in told.value.hint and "no route" in told.value.hint


def test_weights_of_another_network_are_told(tower, tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(VidinitError, match="could not open the text tower tiny-text="):
        text_embeddings(CLASSES, model=f"tiny-text={tmp_path / 'a.pt'}")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ViT-B-61/openai", "open_clip has no model 'ViT-B-61'; did you mean 'ViT-B-16'"),
        ("ViT-B-16/opnai", "no weights 'opnai' of ViT-B-16; did you mean 'openai'"),
    ],
)
def test_names_that_open_clip_does_not_know_are_told(open_clip, name, told):
    with pytest.raises(UsageError, match=told):
        text_embeddings(CLASSES, model=name)


def test_open_clip_is_asked_for_by_name(tmp_path):
    file = tmp_path / "a.pt"
    file.touch()
    with (
        mock.patch("vidinit.text.towers.importlib.util.find_spec", return_value=None),
        pytest.raises(UsageError, match=r"not installed; pip install 'open_clip_torch>=3.0'"),
    ):
        text_embeddings(CLASSES, model=f"ViT-B-16={file}")
