"""Video encoders of transformers from the hub: fetched, named by a probe's folder, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from hub_server import Hub, Repo
from video_encoders import network, saved

import vidinit
from vidinit.checkpoint import model_folder, save_model
from vidinit.errors import UsageError, VidinitError
from vidinit.zoo.adapters.frozen import digest
from vidinit.zoo.images import hub as hub_module


def put(hub: Hub, name: str, folder: Path) -> None:
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    hub.repos[name] = Repo(False, files, commits=1)


def test_an_encoder_comes_from_the_hub_and_is_named(hub, tmp_path, monkeypatch):
    net = network("VJEPA2", "Model")
    net.save_pretrained(tmp_path / "net", max_shard_size="40KB")  # in several files
    put(hub, "they/jepa", tmp_path / "net")
    assert sum(name.endswith(".safetensors") for name in hub.repos["they/jepa"].files) > 1
    model = vidinit.load("hf:they/jepa")
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        want = net(clip.transpose(1, 2), skip_predictor=True).last_hidden_state
        assert torch.equal(model.tokens(clip), want)
    assert model.reference["sha256"] == digest(net.encoder)
    model.reset_head(3)
    save_model(model, tmp_path / "probe")
    card = yaml.safe_load((tmp_path / "probe" / "model.yaml").read_text())
    assert card["tower"]["name"] == f"hf:they/jepa@{hub.repos['they/jepa'].sha}"
    assert (tmp_path / "probe" / "model.safetensors").stat().st_size < 2000, "the head alone"

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the cache has it
    hub_module.forget()
    again = vidinit.load(tmp_path / "probe")
    with torch.no_grad():
        assert torch.equal(again(clip), model(clip))
    assert again.reference == model.reference
    card["tower"]["sha256"] = "0" * 64
    (tmp_path / "probe" / "model.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(UsageError, match="another one than it was made with"):
        vidinit.load(tmp_path / "probe")
    with pytest.raises(VidinitError, match=r"could not get config.json of 'they/none'"):
        model_folder("hf:they/none")


def test_what_is_refused_is_not_fetched(hub, tmp_path):
    folder = saved(tmp_path / "net", "VideoMAE")
    put(hub, "they/code", folder)
    config = json.loads(hub.repos["they/code"].files["config.json"])
    config["auto_map"] = {"AutoModel": "mine.Model"}
    hub.repos["they/code"].files["config.json"] = json.dumps(config).encode()
    with pytest.raises(UsageError, match="hf:they/code comes with code of its own"):
        model_folder("hf:they/code")
    assert not any("safetensors" in path for path in hub.asked)
    put(hub, "they/pickle", folder)
    files = hub.repos["they/pickle"].files
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    with pytest.raises(UsageError, match="hf:they/pickle has no weights as safetensors"):
        model_folder("hf:they/pickle")
    hub.repos["they/timm"] = Repo(False, {}, commits=1)
    with pytest.raises(UsageError, match=r"no model of transformers"):
        model_folder("hf:they/timm")
    with pytest.raises(UsageError, match="no repository of the hub") as error:
        model_folder("hf:./net")
    assert error.value.hint == "write a folder as ./net"
    for ref in ("hf:they", "hf:they/net/model.safetensors"):
        with pytest.raises(UsageError, match=r"write hf:USER/NAME|names a file"):
            model_folder(ref)
