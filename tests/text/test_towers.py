from __future__ import annotations

import pytest
import timm

from vidinit.errors import UsageError
from vidinit.text.towers import (
    TOWERS,
    activation_note,
    find_tower,
    is_image_tower,
    quick_name,
    tower_of,
)

IMAGE_TOWERS = [f"{arch}.{tag}" for arch, (_, tags) in TOWERS.items() for tag in tags]


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("vit_base_patch16_clip_224.openai", "ViT-B-16-quickgelu/openai"),
        ("vit_base_patch16_clip_quickgelu_224.openai", "ViT-B-16-quickgelu/openai"),
        ("vit_large_patch14_clip_quickgelu_336.openai", "ViT-L-14-336-quickgelu/openai"),
        ("vit_base_patch16_clip_224.laion2b", "ViT-B-16/laion2b_s34b_b88k"),
        ("vit_large_patch14_clip_224.metaclip_2pt5b", "ViT-L-14-quickgelu/metaclip_fullcc"),
        ("eva02_base_patch16_clip_224.merged2b", "EVA02-B-16/merged2b_s8b_b131k"),
        ("vit_base_patch16_siglip_224.webli", "ViT-B-16-SigLIP/webli"),
    ],
)
def test_an_image_tower_tells_its_text_tower(image, text):
    assert str(tower_of(image)) == text
    assert str(find_tower(text)) == text


@pytest.mark.parametrize("name", IMAGE_TOWERS)
def test_timm_has_the_image_towers(name):
    for known in (name, quick_name(name)):
        config = timm.get_pretrained_cfg(known, allow_unregistered=False)
        assert tower_of(known) == tower_of(name)
        assert bool(config.num_classes) == is_image_tower(known)  # the projection


@pytest.mark.parametrize("name", IMAGE_TOWERS)
def test_open_clip_has_the_text_towers(name):
    open_clip = pytest.importorskip("open_clip")
    tower = tower_of(name)
    weights = open_clip.get_pretrained_cfg(tower.model, tower.tag)
    assert weights
    wants, has = (
        weights.get("quick_gelu"),
        open_clip.get_model_config(tower.model).get("quick_gelu"),
    )
    assert bool(wants) == bool(has)


def test_weights_get_the_activation_they_were_trained_with():
    quick = "vit_base_patch16_clip_quickgelu_224.openai"
    assert quick_name("vit_base_patch16_clip_224.openai") == quick
    assert quick_name(quick) == quick
    laion = "vit_base_patch16_clip_224.laion2b"
    assert quick_name(laion) == laion
    assert quick_name("resnet50") == "resnet50" and not activation_note("resnet50")
    assert activation_note("vit_base_patch16_clip_224.openai").endswith(f"{quick} is right")


def test_local_weights_are_named_with_their_model(tmp_path):
    file = tmp_path / "mine.pt"
    file.touch()
    tower = find_tower(f"ViT-B-16={file}")
    assert (tower.model, tower.tag, tower.file) == ("ViT-B-16", None, file)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ViT-B-16=no/such.pt", "no such weights file of a text tower: no/such.pt"),
        ("vit_base_patch16_clip_224", "does not say whose weights; write .*openai"),
        ("vit_base_patch16_clp_224.openai", "did you mean 'vit_base_patch16_clip_224'"),
        ("resnet50", "no text tower is known for 'resnet50'; write MODEL/TAG"),
    ],
)
def test_unknown_towers_are_told(name, told):
    with pytest.raises(UsageError, match=told):
        find_tower(name)
