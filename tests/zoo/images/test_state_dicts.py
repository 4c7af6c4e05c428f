"""Files of the usual trainers: which weights are read, and what is said of it."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from vidinit.errors import UsageError
from vidinit.zoo.images.networks import ImageSource, load_image_model
from vidinit.zoo.images.state_dicts import open_weights

ARCH = "test_resnet"  # of timm: half a million parameters
State = dict[str, Tensor]


def network(seed: int = 0, arch: str = ARCH, **arguments) -> nn.Module:
    """A network whose norms say something, too."""
    torch.manual_seed(seed)
    model = timm.create_model(arch, **{"num_classes": 7, **arguments})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def plain() -> State:
    return network(0).state_dict()


@pytest.fixture(scope="module")
def averaged() -> State:
    return network(1).state_dict()


def behind(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def read(tmp_path: Path, held: object, arch: str = ARCH, **options) -> ImageSource:
    torch.save(held, tmp_path / "weights.pth")
    return load_image_model(arch, weights=tmp_path / "weights.pth", **options)


def same(source: ImageSource, state: State) -> bool:
    """True where the network has these tensors, to the bit, and no others but a classifier's."""
    own = source.model.state_dict()
    return all(torch.equal(own[key], state[key]) for key in own)


# ------------------------------------------------------------------ prefixes


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net."),
        *(
            "backbone.",
            "encoder.",
            "module.encoder_q.",
            "base_encoder.",
            "student.",
            "visual.trunk.",
        ),
        *("teacher.backbone.", "module.model.", "my_own_name.", "a.b.c.d."),
    ],
)
def test_prefixes_are_undone_and_said(tmp_path, plain, prefix):
    source = read(tmp_path, {"state_dict": behind(prefix, plain)})
    assert same(source, plain) and source.num_classes == 7
    assert source.read["prefix"] == prefix and source.read["key"] == "state_dict"
    words = " ".join(source.notes)
    assert "state_dict" in words and prefix.rstrip(".") in words


def test_a_file_that_is_the_state_dict_needs_no_word(tmp_path, plain):
    source = read(tmp_path, plain)
    assert same(source, plain) and source.notes == []
    assert source.read == {
        "key": None,
        "prefix": None,
        "kind": "plain",
        "layout": None,
        "left_out": [],
        "new": [],
    }


@pytest.mark.parametrize(
    "path",
    [
        *("state_dict", "model", "model_state", "model_state_dict", "net", "network", "weights"),
        *("params", "module", "model.state_dict", "ckpt.model.module", "something_else"),
    ],
)
def test_containers_are_undone(tmp_path, plain, path):
    held: object = plain
    for key in reversed(path.split(".")):
        held = {key: held, "epoch": 3}
    source = read(tmp_path, held)
    assert same(source, plain) and source.read["key"] == path


# ------------------------------------------------------------------ averages


@pytest.mark.parametrize(
    ("plain_key", "average_key"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model", "ema")],
)
def test_averages_are_taken_and_the_way_to_the_others_is_said(
    tmp_path, plain, averaged, plain_key, average_key
):
    held = {plain_key: plain, average_key: behind("module.", averaged), "epoch": 9}
    source = read(tmp_path, held)
    assert same(source, averaged) and source.read["kind"] == "averaged"
    assert f"--no-ema, or --weights-key {plain_key}" in source.notes[0]
    assert same(read(tmp_path, held, ema=True), averaged)
    other = read(tmp_path, held, ema=False)
    assert same(other, plain) and average_key in " ".join(other.notes)
    assert same(read(tmp_path, held, key=plain_key), plain)
    assert same(read(tmp_path, held, key=average_key), averaged)
    assert same(read(tmp_path, held, key=f"{average_key}.module"), averaged)


def test_averages_alone_are_read(tmp_path, averaged):
    source = read(tmp_path, {"model_ema": behind("module.", averaged)})
    assert same(source, averaged) and "no plain ones" in source.notes[0]
    with pytest.raises(UsageError, match=r"--no-ema: .* has no plain weights"):
        read(tmp_path, {"model_ema": averaged}, ema=False)


def test_ema_without_averages_is_refused(tmp_path, plain):
    with pytest.raises(UsageError, match=r"--ema: .* has no moving averages"):
        read(tmp_path, {"model": plain}, ema=True)
    with pytest.raises(UsageError, match="--weights-key model says which weights already"):
        read(tmp_path, {"model": plain}, ema=True, key="model")


@pytest.mark.parametrize("flat", [True, False])
def test_a_teacher_is_the_average_of_its_student(tmp_path, plain, averaged, flat):
    student, teacher = behind("backbone.", plain), behind("backbone.", averaged)
    held: dict = {"student": student, "teacher": teacher}
    if flat:
        held = {**behind("student.", student), **behind("teacher.", teacher)}
    source = read(tmp_path, held)
    assert same(source, averaged) and "student" in " ".join(source.notes)
    assert same(read(tmp_path, held, ema=False), plain)
    assert same(read(tmp_path, held, key="student"), plain)


def test_an_unknown_key_is_refused_with_those_there_are(tmp_path, plain):
    with pytest.raises(UsageError, match="it has model, extra"):
        read(tmp_path, {"model": plain, "extra": {"w": torch.ones(1)}}, key="nothing_like_it")
    with pytest.raises(UsageError, match="did you mean 'model_ema'"):
        read(tmp_path, {"model_ema": plain}, key="model_emo")


# ------------------------------------------------------------------ what is beside the network


def test_moco(tmp_path, plain, averaged):
    body = {k: v for k, v in plain.items() if not k.startswith("fc.")}
    slow = {k: v for k, v in averaged.items() if not k.startswith("fc.")}
    head = {
        "fc.0.weight": torch.ones(256, 256),
        "fc.0.bias": torch.ones(256),
        "fc.2.weight": torch.ones(128, 256),
        "fc.2.bias": torch.ones(128),
    }
    held = {
        **behind("module.encoder_q.", body | head),
        **behind("module.encoder_k.", slow | head),
        "module.queue": torch.ones(128, 64),
        "module.queue_ptr": torch.zeros(1, dtype=torch.long),
    }
    source = read(tmp_path, {"state_dict": held, "optimizer": {"state": {}}})
    assert same(source, body) and source.num_classes == 0
    words = " ".join(source.notes)
    assert "behind module.encoder_q." in words and "queue" in words
    assert "its classifier does not fit: fc (4 tensors)" in words
    assert set(source.read["left_out"]) >= {"module.queue", "module.queue_ptr", "fc.0.weight"}


def test_moco_of_vision_transformers(tmp_path):
    """Its head has a batch norm between its layers, its predictor and slow encoder stand beside."""
    body = network(arch="test_vit", num_classes=0).state_dict()
    head = {"head.0.weight": torch.ones(9, 64), "head.1.running_mean": torch.ones(9)}
    held = {
        **behind("module.base_encoder.", body | head),
        **behind("module.momentum_encoder.", {k: v * 0 for k, v in body.items()} | head),
        "module.predictor.0.weight": torch.ones(9, 9),
    }
    source = read(tmp_path, {"state_dict": held}, "test_vit")
    assert same(source, body) and source.num_classes == 0
    words = " ".join(source.notes)
    assert "behind module.base_encoder." in words and "module.predictor.0.weight" in words


def test_dino(tmp_path):
    student, teacher = (network(n, "test_vit", num_classes=0).state_dict() for n in (0, 1))
    head = {"head.mlp.0.weight": torch.ones(9, 64), "head.last_layer.weight_g": torch.ones(9, 1)}
    held = {
        "student": behind("module.backbone.", student) | behind("module.", head),
        "teacher": behind("backbone.", teacher) | head,
        "dino_loss": {"center": torch.ones(1, 9)},
        "optimizer": {"state": {}},
        "args": argparse.Namespace(arch="vit"),
    }
    source = read(tmp_path, held, "test_vit")
    assert same(source, teacher) and set(source.read["left_out"]) == set(head)
    assert same(read(tmp_path, held, "test_vit", key="student"), student)


def test_lightning(tmp_path, plain):
    held = {
        "state_dict": {**behind("model.", plain), "criterion.weight": torch.ones(7)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
        "hyper_parameters": {"lr": 0.1},
    }
    source = read(tmp_path, held)
    assert same(source, plain) and source.read["left_out"] == ["criterion.weight"]
    assert "left out: criterion.weight" in source.notes


def test_without_a_prefix_known_extras_alone_are_left_out(tmp_path, plain):
    known = {"criterion.weight": torch.ones(7), "projector.0.weight": torch.ones(3, 3)}
    source = read(tmp_path, plain | known | {"total_ops": torch.ones(1)})
    assert same(source, plain) and set(source.read["left_out"]) == {*known, "total_ops"}
    with pytest.raises(UsageError, match=r"1 tensor is unexpected, layer1\.0\.se\.weight first"):
        read(tmp_path, plain | {"layer1.0.se.weight": torch.ones(3)})


def test_a_classifier_in_a_sequential_or_of_another_name(tmp_path, plain):
    for name in ("fc.1", "head", "classifier", "linear.0"):
        moved = {k.replace("fc.", f"{name}."): v for k, v in plain.items()}
        source = read(tmp_path, moved)
        assert same(source, plain) and source.num_classes == 7
        assert f"its classifier is {name}" in " ".join(source.notes)
    outside = {**behind("backbone.", plain), "head.weight": plain["fc.weight"]}
    del outside["backbone.fc.weight"], outside["backbone.fc.bias"]
    source = read(tmp_path, outside)
    assert torch.equal(source.model.fc.weight, plain["fc.weight"])
    assert not source.model.fc.bias.any() and "has no bias" in " ".join(source.notes)


def test_a_sequential_of_the_networks_layers(tmp_path, plain):
    """Of SimCLR and others: all children but the last, which have numbers for names then."""
    model = network(0)
    body = nn.Sequential(*list(model.children())[:-1])
    held = {"state_dict": behind("backbone.", body.state_dict())}
    source = read(tmp_path, held)
    assert same(source, plain) and source.num_classes == 0
    assert "numbers for names" in " ".join(source.notes)


def test_a_missing_classifier_is_no_fault(tmp_path, plain):
    body = {k: v for k, v in plain.items() if not k.startswith("fc.")}
    source = read(tmp_path, behind("backbone.", body))
    assert same(source, body) and source.num_classes == 0 and source.read["new"] == ["fc"]
    assert "the file has no classifier" in source.notes


def test_one_and_four_channels(tmp_path):
    for channels in (1, 4):
        theirs = network(in_chans=channels)
        source = read(tmp_path, {"state_dict": behind("module.", theirs.state_dict())})
        image = torch.randn(1, channels, 32, 32)
        assert torch.equal(source.model(image), theirs(image))
        assert f"{channels} channel" in " ".join(source.notes)


# ------------------------------------------------------------------ vision transformers


def test_the_file_of_an_mae_encoder(tmp_path):
    theirs = network(arch="test_vit", num_classes=0)
    extras = {
        "mask_token": torch.ones(1, 1, 192),
        "decoder_pos_embed": torch.ones(1, 197, 64),
        "decoder_embed.weight": torch.ones(64, 192),
        "decoder_blocks.0.norm1.weight": torch.ones(64),
    }
    held = {"model": theirs.state_dict() | extras, "args": argparse.Namespace(lr=1.0)}
    source = read(tmp_path, held, "test_vit")
    assert same(source, theirs.state_dict()) and source.num_classes == 0
    assert set(source.read["left_out"]) == set(extras)


def test_the_norm_behind_the_average_of_tokens(tmp_path):
    theirs = network(arch="test_vit", global_pool="avg")
    assert "fc_norm.weight" in theirs.state_dict()
    source = read(tmp_path, {"model": theirs.state_dict()}, "test_vit")
    image = torch.randn(1, 3, 160, 160)
    assert torch.equal(source.model(image), theirs(image))
    assert source.arguments == {"global_pool": "avg"} and "fc_norm" in " ".join(source.notes)


def test_dinov2_as_its_authors_save_it(tmp_path):
    theirs = network(arch="test_vit", num_classes=0, img_size=64)
    held = theirs.state_dict() | {"mask_token": torch.ones(1, 64)}
    source = read(tmp_path, held, "test_vit")
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(source.model(image), theirs(image))
    assert source.read["left_out"] == ["mask_token"]
    assert "its images have 64 pixels a side" in source.notes


def test_timms_own_filter_reads_what_has_other_names(tmp_path):
    """ConvNeXt's authors number stages and name layers in their own way."""
    theirs = network(arch="test_convnext")
    named = {}
    for key, value in theirs.state_dict().items():
        key = key.replace("stem.", "downsample_layers.0.").replace("head.norm.", "norm.")
        key = key.replace("head.fc.", "head.").replace(".blocks.", ".")
        for stage in (1, 2, 3):
            key = key.replace(f"stages.{stage}.downsample.", f"downsample_layers.{stage}.")
        key = key.replace(".conv_dw.", ".dwconv.").replace(".mlp.fc", ".pwconv")
        named[key] = value
    source = read(tmp_path, {"model": named}, "test_convnext")
    image = torch.randn(1, 3, 64, 64)
    assert torch.allclose(source.model(image), theirs(image), atol=1e-6)
    assert "timm's filter" in " ".join(source.notes)


# ------------------------------------------------------------------ what no network could use


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.to(torch.int32), "layer1.0.conv1.weight of .* is int32, not floating point"),
        (lambda t: t.to(torch.complex64), "layer1.0.conv1.weight of .* is complex64, not floating"),
        (lambda t: t * float("nan"), "layer1.0.conv1.weight of .* \\d+ of \\d+ values .* NaN"),
        (lambda t: t / 0 * t.sign(), "layer1.0.conv1.weight of .* values that are infinite"),
        (lambda t: t.double() * 1e300, "layer1.0.conv1.weight of .* values that are infinite"),
    ],
)
def test_weights_that_no_network_could_use_are_named(tmp_path, plain, change, words):
    wrong = {"layer1.0.conv1.weight": change(plain["layer1.0.conv1.weight"])}
    with pytest.raises(UsageError, match=words) as error:
        read(tmp_path, plain | wrong)
    assert error.value.exit_code == 2


def test_half_precision_is_read(tmp_path, plain):
    half = {k: v.half() if v.is_floating_point() else v for k, v in plain.items()}
    source = read(tmp_path, half)
    assert source.model.fc.weight.dtype == torch.float32
    assert torch.equal(source.model.fc.weight, plain["fc.weight"].half().float())


# ------------------------------------------------------------------ files


def test_values_that_trainers_store_beside_the_weights(tmp_path, plain):
    held = {
        "model": plain,
        "args": argparse.Namespace(out=Path("here"), lr=0.1),
        "best": np.float64(0.5),
        "curve": np.ones(3),
        "epoch": 3,
    }
    assert same(read(tmp_path, held), plain)


def test_objects_are_refused_in_plain_words(tmp_path):
    class Config:
        pass

    held = {"model": {}, "config": Config}
    Config.__module__, Config.__qualname__ = "elsewhere", "Config"
    import sys
    import types

    sys.modules["elsewhere"] = types.ModuleType("elsewhere")
    sys.modules["elsewhere"].Config = Config
    try:
        torch.save(held, tmp_path / "weights.pth")
    finally:
        del sys.modules["elsewhere"]
    with pytest.raises(UsageError, match=r"it holds objects of elsewhere\.Config") as error:
        open_weights(tmp_path / "weights.pth")
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "held", "words"),
    [
        ("w.pth", b"hello", "it is no file that torch.save writes"),
        ("w.pth", b"", "cannot read weights"),
        ("w.safetensors", b"hello", "cannot read weights"),
    ],
)
def test_other_files_are_refused_in_plain_words(tmp_path, name, held, words):
    (tmp_path / name).write_bytes(held)
    with pytest.raises(UsageError, match=words) as error:
        open_weights(tmp_path / name)
    assert "weights_only" not in str(error.value) and "\x1b" not in str(error.value)


def test_a_file_without_weights_says_what_it_has(tmp_path):
    torch.save({"epoch": 3, "optimizer": {"state": {}}}, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match="holds no state dict, only epoch, optimizer"):
        open_weights(tmp_path / "weights.pth")


def test_a_file_that_does_not_fit_shows_both_sides(tmp_path, plain):
    with pytest.raises(UsageError) as error:
        read(tmp_path, {"state_dict": plain}, "test_vit")
    text = str(error.value)
    assert "begin with conv1" in text and "cls_token" in text
    assert "do not fit" in text and "the architecture the file belongs to" not in text
    with pytest.raises(UsageError, match="of resnet18's 102 tensors are there"):
        read(tmp_path, plain, "resnet18")
