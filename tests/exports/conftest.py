from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, Hub
from support import shake_norms

import vidinit
from vidinit.checkpoint import save_model
from vidinit.zoo.images import hub as hub_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a small network with names of its own."""
    torch.manual_seed(0)
    model = vidinit.create_model("c2d-resnet10t", num_classes=3, frames=2).eval()
    shake_norms(model)
    with torch.no_grad():
        model.head.weight.mul_(30)  # logits of an ordinary size
    model.spec = replace(model.spec, size=32, stride=5, mean=(0.1, 0.2, 0.3), sampling="uniform")
    model.classes = ["änd", "bow", "cut|off"]
    model.lineage = [{"step": "convert", "source": "resnet10t", "weights": "/data/r10t.pth"}]
    return save_model(model, tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub on this machine, and an empty cache; nothing else is reached."""
    server = Hub()
    constants = "huggingface_hub.constants"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{constants}.ENDPOINT", server.url)
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "hub"))
    hub_module.forget()
    yield server
    hub_module.forget()
    server.close()
