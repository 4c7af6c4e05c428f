from __future__ import annotations

from unittest import mock

import pytest

import vidinit
from vidinit.errors import UsageError
from vidinit.pipelines.evaluate.settings import EvaluateConfig
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.shared.text_head import check_text, own_tower

QUICK = "vit_base_patch16_clip_quickgelu_224"


@pytest.fixture
def without_open_clip():
    with mock.patch("importlib.util.find_spec", return_value=None):
        yield


@pytest.mark.parametrize(
    ("step", "tower"),
    [
        ({"source": f"{QUICK}.openai", "weights": "mine.pt"}, "ViT-B-16-quickgelu/openai"),
        # timm's own tag, which the source does not name
        (
            {"source": QUICK, "weights": f"timm's hub, {QUICK}.metaclip_2pt5b"},
            "ViT-B-16-quickgelu/metaclip_fullcc",
        ),
        ({"source": QUICK, "weights": "mine.pt"}, None),
        ({"source": "resnet50.a1_in1k"}, None),
    ],
)
def test_the_lineage_tells_the_text_tower(step, tower):
    model = vidinit.create_model("c2d-test_vit", num_classes=4)
    model.lineage = [{"step": "convert", **step}, {"step": "finetune", "data": "x"}]
    assert own_tower(model) == tower


def refused(told: str, config, **more) -> None:
    with pytest.raises(UsageError, match=told):
        check_text(config, **more)


def test_texts_are_checked_before_anything_is_read(tmp_path, without_open_clip):
    auto = {"model": "auto"}
    refused("open_clip, which is not installed", FinetuneConfig(model="a", text=auto))
    refused("open_clip, which is not installed", EvaluateConfig(model="a", zero_shot=True))
    check_text(FinetuneConfig(model="a", text=auto), embeds=False)  # a dry run without data
    file = {"file": str(tmp_path / "a.npz")}
    refused("no such file of text embeddings", FinetuneConfig(model="a", text=file))
    (tmp_path / "a.npz").touch()
    check_text(FinetuneConfig(model="a", text=file))
    check_text(EvaluateConfig(model="a", text=file, zero_shot=True))
    check_text(FinetuneConfig(model="a"))
    check_text(EvaluateConfig(model="a"))
    refused("text.templates alone", FinetuneConfig(model="a", text={"templates": "video"}))
    refused("no text tower is known", FinetuneConfig(model="a", text={"model": "resnet50"}))
    siglip = EvaluateConfig(model="vit_base_patch16_siglip_224.webli", zero_shot=True)
    refused("has no linear projection", siglip)
