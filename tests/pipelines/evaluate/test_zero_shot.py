"""Zero-shot scores and text heads from end to end, on models with random weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import timm
import torch
from support import MODEL
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.checkpoint import save_model
from vidinit.data.pixels.batch import normalize
from vidinit.data.rows import Row, Rows
from vidinit.errors import DataError, UsageError
from vidinit.text import save_embeddings
from vidinit.zoo.base import VideoModel
from vidinit.zoo.view_outputs import views_of

WORDS = ["goes right", "stands still", "goes left"]
SMALL = ["data.frames=2", "data.stride=2", "data.workers=0", "data.batch_size=4"]
DIM = 12


def dist_model(**options: int) -> VideoModel:
    torch.manual_seed(0)
    small = {"frames": 4, "gamma": 2, "dim": 64, "temporal_dim": 16, "pools": 1}
    model = vidinit.create_model("dist-test_vit", projection=DIM, **small, **options)
    model.spec = replace(model.spec, size=32)
    return model


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """An image-text model whose frames are averaged, J = 12."""
    torch.manual_seed(0)
    model = vidinit.create_model("c2d-test_vit", num_classes=DIM)
    torch.nn.init.normal_(model.head.weight)
    return save_model(model, tmp_path_factory.mktemp("models") / "bare")


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """A DiST model without a head, J = 12."""
    return save_model(dist_model(), tmp_path_factory.mktemp("models") / "dist")


@pytest.fixture(scope="module")
def renamed(motion_set: Path, tmp_path_factory) -> Path:
    """The validation clips in folders with names in camel case and with underscores."""
    root = tmp_path_factory.mktemp("renamed")
    for name, folder in (("left", "goes_left"), ("right", "GoesRight")):
        (root / folder).mkdir()
        for clip in ("0.mp4", "1.mp4"):
            (root / folder / clip).symlink_to(motion_set / "val" / name / clip)
    return root


def table_of(width: int, count: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def texts(tmp_path: Path) -> Callable[[int], Path]:
    """Writes a table of the classes in `WORDS`."""
    return lambda width: save_embeddings(tmp_path / "t.safetensors", table_of(width), WORDS)


def predictions(out: Path) -> list[dict[str, str]]:
    with open(out / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def unit(vectors: torch.Tensor) -> np.ndarray:
    array = vectors.double().numpy()
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def check(out: Path, folder: Path, logits: Callable, frames: int, **views: int) -> None:
    """The predictions of a run are those of plain NumPy.

    ``logits`` takes the model and a video's normalized views, and returns (views, classes).
    """
    model = vidinit.load(folder)
    spec = replace(model.spec, frames=frames, stride=2)
    found = predictions(out)
    assert len(found) == 4
    for row in found:
        item = views_of(Rows((Row(row["path"]),)), spec, **views)[0]
        with torch.no_grad():
            said = logits(model, normalize(item["views"], spec.mean, spec.std))
        mean = softmax(said).mean(axis=0)
        assert row["prediction"] == WORDS[mean.argmax()]
        assert float(row["probability"]) == pytest.approx(mean.max(), abs=1e-4)


def test_a_frame_averaged_model_is_compared_with_texts(bare, renamed, texts, tmp_path):
    result = vidinit.evaluate(
        bare,
        val=renamed,
        zero_shot=True,
        classes=WORDS,
        text=texts(DIM),
        out=tmp_path / "out",
        overrides=SMALL,
        clips=2,
        crops=3,
    )

    def logits(model, clips):
        return 100 * unit(model(clips)) @ unit(table_of(DIM)).T

    check(tmp_path / "out", bare, logits, 2, clips=2, crops=3)
    labels = {row["label"] for row in predictions(tmp_path / "out")}
    assert labels == {"goes left", "goes right"}  # the folders' classes, as the list writes them
    assert (result["views"], result["videos"]) == (6, 4)
    right = [row["label"] == row["prediction"] for row in predictions(tmp_path / "out")]
    assert result["top1"] == pytest.approx(np.mean(right), abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_dist_is_compared_with_texts(dist, renamed, texts, tmp_path, share):
    vidinit.evaluate(
        dist,
        val=renamed,
        zero_shot=True,
        classes=WORDS,
        text=texts(DIM),
        ensemble=share,
        out=tmp_path / "out",
        overrides=[*SMALL, "data.frames=4"],
    )
    table = unit(table_of(DIM))

    def logits(model, clips):
        own = 100 * unit(model.embed(clips)) @ table.T
        frames = model.tower.vit(clips[:, :, ::2].transpose(1, 2).flatten(0, 1))
        tower = 100 * (unit(frames) @ table.T).reshape(len(clips), 2, 3).mean(axis=1)
        return (1 - share) * own + share * tower

    check(tmp_path / "out", dist, logits, 4)


@pytest.mark.slow
def test_a_text_head_is_trained_saved_and_predicts(dist, motion_set, tmp_path, capfd):
    file = save_embeddings(tmp_path / "t.safetensors", table_of(DIM, 2), ["right", "left"])
    small = [*SMALL, "data.frames=4", f"text.file={file}"]
    run = tmp_path / "run"
    vidinit.finetune(dist, data=motion_set, out=run, epochs=1, shots=2, overrides=small)
    said = capfd.readouterr().err
    assert "its head is the text embeddings of the 2 classes" in said
    model = vidinit.load(run)
    assert model.classes == ["left", "right"]
    before = vidinit.load(dist)
    changed = [
        key
        for key, p in model.named_parameters()
        if not torch.equal(p, dict(before.named_parameters())[key])
    ]
    assert changed and all(key.startswith("side.") for key in changed)
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        want = 100 * unit(model.embed(clip)) @ unit(table_of(DIM, 2).flip(0)).T
        np.testing.assert_allclose(model(clip).numpy(), want, atol=1e-3)
    names = [name for name, _ in model.predict(motion_set / "val" / "left" / "0.mp4")]
    assert sorted(names) == ["left", "right"]
    # By its own classes, and by others it was not trained on.
    trained = vidinit.evaluate(run, data=motion_set, out=tmp_path / "a", overrides=SMALL[2:])
    same = vidinit.evaluate(
        run, data=motion_set, out=tmp_path / "b", overrides=SMALL[2:], zero_shot=True, text=file
    )
    assert trained["top1"] == same["top1"]
    assert predictions(tmp_path / "a") == predictions(tmp_path / "b")


def test_without_texts_dist_gets_a_linear_head(dist, motion_set, tmp_path, capfd):
    small = [*SMALL, "data.frames=4"]
    run = tmp_path / "run"
    vidinit.finetune(dist, data=motion_set, out=run, epochs=1, shots=1, overrides=small)
    assert "trained with a linear head; text.model=auto" in capfd.readouterr().err
    assert isinstance(vidinit.load(run).head, torch.nn.Linear)


def test_the_command_says_what_it_compares_with(bare, renamed, texts, tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(WORDS))
    words = ["--zero-shot", "--classes", tmp_path / "classes.txt", "--text", texts(DIM), "--json"]
    words += ["--val", renamed, "--out", tmp_path / "out", *SMALL]
    done = CliRunner().invoke(app, ["eval", *map(str, [bare, *words])])
    assert done.exit_code == 0, done.stderr
    assert "text embeddings of 3 classes from" in done.stderr
    assert json.loads(done.stdout)["videos"] == 4


def test_an_image_tower_is_a_model_by_its_name(renamed, texts, tmp_path, capfd):
    """With the activation of its weights, its projection for a head, and its own text tower."""
    seen = []

    def hub(_timm, name, _ways):
        seen.append(name)
        torch.manual_seed(0)
        return timm.create_model("test_vit", num_classes=DIM)

    rows = {"test_clip_vit": ("Tiny", {"openai": "openai"})}
    with (
        mock.patch.dict("vidinit.text.towers.TOWERS", rows),
        mock.patch("vidinit.zoo.images.networks.check_timm_name"),
        mock.patch("vidinit.zoo.images.networks.pretrained_from_hub", hub),
        mock.patch("vidinit.pipelines.shared.text_head.text_embeddings") as embed,
        mock.patch("vidinit.pipelines.shared.text_head.require_open_clip"),
    ):
        embed.return_value = torch.nn.functional.normalize(table_of(DIM), dim=1)
        vidinit.evaluate(
            "test_clip_vit.openai",
            val=renamed,
            zero_shot=True,
            classes=WORDS,
            templates="video",
            out=tmp_path / "out",
            overrides=SMALL,
        )
    assert seen == ["test_clip_quickgelu_vit.openai"]
    assert embed.call_args.args == (WORDS,)
    assert embed.call_args.kwargs["model"] == "Tiny-quickgelu/openai"
    assert embed.call_args.kwargs["templates"] == "video"
    said = capfd.readouterr().err
    assert "with the activation it was trained with" in said
    assert "text embeddings of 3 classes by Tiny-quickgelu/openai, 1 text a class" in said
    assert len(predictions(tmp_path / "out")) == 4


def test_unknown_classes_are_told(bare, renamed, texts, tmp_path):
    with pytest.raises(DataError, match=r"class 'GoesRight' .* is not among those of --classes"):
        vidinit.evaluate(
            bare,
            val=renamed,
            zero_shot=True,
            classes=["goes left", "goes up"],
            text=texts(DIM),
            out=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ensemble": 0.5}, "an ensemble is of two"),
        ({"text": 7}, "embeds videos in 12 dimensions, the text embeddings have 7"),
        ({"text_model": "auto", "text": None}, "does not tell which text tower|not installed"),
        ({"text_model": "ViT-B-16/openai"}, "a text tower and a file"),
        ({"templates": "video"}, "templates are for a text tower"),
        ({"templates": "vidoe", "text": None}, "did you mean 'video'"),
        ({"head": "mine"}, "takes the place of a head"),
        ({"zero_shot": False}, "--zero-shot is not"),
        ({"classes": "no/such.txt"}, r"no such file of class names: no/such\.txt"),
    ],
)
def test_what_does_not_go_together_is_told(bare, renamed, texts, tmp_path, given, told):
    given = {"zero_shot": True, "classes": WORDS, "text": DIM, **given}
    if given["text"] is not None:
        given["text"] = texts(given["text"])
    with pytest.raises(UsageError, match=told):
        vidinit.evaluate(bare, val=renamed, out=tmp_path / "out", overrides=SMALL, **given)


def test_a_classifier_is_no_image_text_model(motion_set, tmp_path):
    file = save_embeddings(tmp_path / "t.safetensors", table_of(2, 2), ["left", "right"])
    model = vidinit.create_model(MODEL, num_classes=2)
    model.classes = ["left", "right"]
    plain = save_model(model, tmp_path / "plain")
    headed = save_model(dist_model(num_classes=2), tmp_path / "headed")
    for folder in (plain, headed):
        with pytest.raises(UsageError, match="is a classifier of 2 classes"):
            vidinit.evaluate(
                folder, data=motion_set, zero_shot=True, text=file, out=tmp_path / "out"
            )
    settings = {"text.file": str(file)}
    with pytest.raises(UsageError, match=r"has no text head, and text\.file is set"):
        vidinit.finetune(plain, data=motion_set, out=tmp_path / "run", overrides=settings)
    for more, told in (
        ({"train.freeze": "trunk"}, "leaves nothing to train"),
        ({"text.model": "auto"}, "a text tower and a file"),
    ):
        with pytest.raises(UsageError, match=told):
            vidinit.finetune(
                headed, data=motion_set, out=tmp_path / "run", overrides={**settings, **more}
            )
