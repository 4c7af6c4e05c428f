"""V-JEPA 2's attentive probe: its file onto a trunk and back, by names and by its equations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner
from video_encoders import network, saved
from vidinit.commands import app

import vidinit
from vidinit.checkpoint import save_model
from vidinit.errors import UsageError
from vidinit.zoo.poolers import make_pooler

WIDTH, HEADS, CLASSES = 32, 4, 5


def probe_of(seed: int, depth: int = 3) -> dict[str, Tensor]:
    """A probe by its published names, as many blocks as its code calls the depth."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return 0.2 * torch.randn(*shape, generator=generator)

    def layers(block: str, **sizes: tuple[int, int]) -> Iterator[tuple[str, Tensor]]:
        for name, (outputs, inputs) in sizes.items():
            layer = f"{block}.{name.replace('__', '.')}"
            yield f"{layer}.weight", drawn(outputs, inputs)
            yield f"{layer}.bias", drawn(outputs)
        for norm in ("norm1", "norm2"):
            yield f"{block}.{norm}.weight", 1 + drawn(WIDTH)
            yield f"{block}.{norm}.bias", drawn(WIDTH)

    mlp = {"mlp__fc1": (4 * WIDTH, WIDTH), "mlp__fc2": (WIDTH, 4 * WIDTH)}
    state = {"query_tokens": drawn(1, 1, WIDTH)}
    cross = {"xattn__q": (WIDTH, WIDTH), "xattn__kv": (2 * WIDTH, WIDTH)}
    state |= dict(layers("cross_attention_block", **cross, **mlp))
    own = {"attn__qkv": (3 * WIDTH, WIDTH), "attn__proj": (WIDTH, WIDTH)}
    for number in range(depth - 1):
        state |= dict(layers(f"blocks.{number}", **own, **mlp))
    named = {f"module.pooler.{key}": value for key, value in state.items()}
    named["module.linear.weight"] = drawn(CLASSES, WIDTH)
    named["module.linear.bias"] = drawn(CLASSES)
    return named


def by_its_equations(state: dict[str, Tensor], x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logits (B, classes) of tokens (B, N, C), in plain operations."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"module.{name}.weight"].T + state[f"module.{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        unit = centered / (centered.pow(2).mean(-1, keepdim=True) + eps).sqrt()
        return unit * state[f"module.{name}.weight"] + state[f"module.{name}.bias"]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, size = [], WIDTH // HEADS
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            weights = (q[..., part] @ k[..., part].mT / size**0.5).softmax(-1)
            out.append(weights @ v[..., part])
        return torch.cat(out, -1)

    def mlp(block: str, x: Tensor) -> Tensor:
        hidden = F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x)))
        return x + linear(f"{block}.mlp.fc2", hidden)

    depth = len({key.split(".")[3] for key in state if ".blocks." in key})
    for number in range(depth):
        block = f"pooler.blocks.{number}"
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x)).split(WIDTH, -1)
        x = mlp(block, x + linear(f"{block}.attn.proj", attend(q, k, v)))
    block, query = "pooler.cross_attention_block", state["module.pooler.query_tokens"]
    k, v = linear(f"{block}.xattn.kv", norm(f"{block}.norm1", x)).split(WIDTH, -1)
    y = query + attend(linear(f"{block}.xattn.q", query), k, v)
    return linear("linear", mlp(block, y))[:, 0]


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("nets") / "jepa", "VJEPA2", "Model")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"classifiers": [probe_of(0), probe_of(1)], "epoch": 20}, tmp_path / "probe.pt")
    return tmp_path / "probe.pt"


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)


def test_a_published_probe_on_its_encoder(trunk, file, tmp_path):
    out, clip = tmp_path / "out", torch.randn(2, 3, 4, 32, 32)
    report = vidinit.convert(str(file), str(trunk), out=out, heads=HEADS)
    assert report.layout == "vjepa2-probe" and report.exact is None
    assert any("the file has 2 probes: --weights-key classifiers.N" in n for n in report.notes)
    model = vidinit.load(out)
    with torch.no_grad():
        want = by_its_equations(probe_of(0), model.tokens(clip))
        assert want.std() > 0.1 and torch.allclose(model(clip), want, atol=2e-6, rtol=0)
    assert (model.num_classes, model.pooler.heads, model.pooler.eps) == (CLASSES, HEADS, 1e-5)
    vidinit.export(out, out=tmp_path / "back.pt", layout="vjepa2-probe")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert list(back) == ["classifiers"] and len(back["classifiers"]) == 1
    assert same(back["classifiers"][0], probe_of(0))
    other = vidinit.convert(str(file), str(trunk), weights_key="classifiers.1", heads=HEADS).model
    with torch.no_grad():
        assert torch.allclose(
            other(clip), by_its_equations(probe_of(1), model.tokens(clip)), atol=2e-6
        )


@pytest.mark.slow
def test_heads_are_those_of_the_published_ones(trunk, file):
    with_sixteen = vidinit.convert(str(file), str(trunk))
    assert with_sixteen.model.pooler.heads == 16
    assert "16, as published; --option heads=N sets another number" in with_sixteen.notes[-2]


def test_transformers_names_both_ways(trunk, tmp_path):
    net = network("VJEPA2", classes=["a", "b", "c"])
    state = {k: v for k, v in net.state_dict().items() if k.startswith(("pooler.", "classifier."))}
    save_file(state, tmp_path / "theirs.safetensors")
    net.vjepa2.save_pretrained(tmp_path / "encoder")
    model = vidinit.convert(
        str(tmp_path / "theirs.safetensors"), str(tmp_path / "encoder"), out=tmp_path / "out"
    ).model
    assert (model.pooler.heads, model.pooler.eps) == (2, 1e-6)
    clip = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model(clip), net(clip.transpose(1, 2)).logits, atol=1e-6, rtol=0)
    done = CliRunner().invoke(app, [
        "export", str(tmp_path / "out"), "--out", str(tmp_path / "back.safetensors"),
        "--layout", "vjepa2-probe-transformers",
    ])  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert same(load_file(tmp_path / "back.safetensors"), state)


@pytest.mark.slow
def test_a_probe_on_an_image_model(tmp_path, file):
    """Any trunk with tokens of its width will do; it is a folder of ours."""
    model = vidinit.create_model(
        "c2d-vit_tiny_patch16_224", num_classes=2, frames=2,
        network={"img_size": 32, "depth": 1, "embed_dim": WIDTH, "num_heads": 2},
    )  # fmt: skip
    model.spec = replace(model.spec, size=32)
    save_model(model, tmp_path / "c2d")
    made = vidinit.convert(str(file), str(tmp_path / "c2d"), out=tmp_path / "out", heads=HEADS)
    again, clip = vidinit.load(tmp_path / "out"), torch.randn(1, 3, 2, 32, 32)
    with torch.no_grad():
        want = by_its_equations(probe_of(0), made.model.tokens(clip))
        assert torch.allclose(again(clip), want, atol=2e-6, rtol=0)


def refused(match: str, function: Any, *args: Any, **options: Any) -> None:
    with pytest.raises(UsageError, match=match):
        function(*args, **options)


def test_what_cannot_be(trunk, file, tmp_path):
    def put(state: Any) -> str:
        torch.save(state, tmp_path / "x.pt")
        return str(tmp_path / "x.pt")

    to = str(trunk)
    whole = probe_of(0)
    less = {k: v for k, v in whole.items() if k != "module.pooler.blocks.1.attn.proj.bias"}
    refused("blocks.1.attn.proj.bias does not fit", vidinit.convert, put(less), to, heads=HEADS)
    more = {**whole, "module.pooler.blocks.0.gamma": torch.ones(3)}
    refused("blocks.0.gamma is unknown", vidinit.convert, put(more), to, heads=HEADS)
    nan = {**whole, "module.linear.bias": torch.full((CLASSES,), torch.nan)}
    refused("NaN", vidinit.convert, put(nan), to, heads=HEADS)
    wide = {**whole, "module.pooler.query_tokens": torch.ones(1, 1, 48)}
    refused("tokens of 48 channels, those of hf-vjepa2 have 32", vidinit.convert, put(wide), to)
    refused("holds no attentive probe", vidinit.convert, put({"fc.weight": torch.ones(2, 2)}), to)
    refused("heads=3", vidinit.convert, str(file), to, heads="3")
    refused("cannot be shared out among 5 heads", vidinit.convert, str(file), to, heads=5)
    refused("--size is of networks", vidinit.convert, str(file), to, size=64)
    refused("no option 'gamma'", vidinit.convert, str(file), to, gamma=2)
    refused("no model or run folder", vidinit.convert, str(file), str(tmp_path))


def test_what_has_no_place_in_its_files(trunk, tmp_path):
    model = vidinit.load(trunk)
    model.reset_head(3)
    save_model(model, tmp_path / "plain")
    refused("does not read the tokens", vidinit.export, tmp_path / "plain",
            out=tmp_path / "a.pt", layout="vjepa2-probe")  # fmt: skip
    model.set_pooler(make_pooler(WIDTH, form="vjepa2", blocks=2, heads=2, time="sincos"))
    save_model(model, tmp_path / "coded")
    refused(r"time code \(sincos\)", vidinit.export, tmp_path / "coded",
            out=tmp_path / "b.pt", layout="vjepa2-probe")  # fmt: skip
    refused("cannot be exported", vidinit.export, tmp_path / "coded", out=tmp_path / "c.onnx")
    assert not list(tmp_path.glob("*.pt"))
