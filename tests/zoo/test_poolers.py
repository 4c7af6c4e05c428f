"""Poolers: V-JEPA 2's against transformers', published sizes, and which of them know order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vidinit.errors import UsageError
from vidinit.zoo.attentive import halves, mix_heads, read_tokens
from vidinit.zoo.base import count_parameters
from vidinit.zoo.poolers import (
    POOLERS,
    GatedCore,
    GatedPooler,
    Pooler,
    ReadoutPooler,
    VJEPA2Pooler,
    make_pooler,
    sincos,
)

FORMS = {
    "coca": {"blocks": 2, "heads": 3},
    "vjepa2": {"form": "vjepa2", "blocks": 2, "heads": 3, "time": "none"},
    "vjepa2 learned": {"form": "vjepa2", "blocks": 1, "heads": 2, "time": "learned", "frames": 4},
    "vjepa2 sincos": {"form": "vjepa2", "blocks": 2, "heads": 2, "time": "sincos"},
    "readout": {"form": "readout", "heads": 2, "readout": 16, "time": "learned", "frames": 4},
    "gru": {"form": "gru", "blocks": 2, "heads": 3, "readout": 16, "readout_heads": 4},
}
ORDERED = {"vjepa2 learned", "vjepa2 sincos", "readout", "gru"}


def filled(pooler: Pooler) -> Pooler:
    """With weights with which every part of it matters."""
    generator = torch.Generator().manual_seed(1)
    for parameter in pooler.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return pooler.eval()


def tokens(frames: int = 4) -> Tensor:
    return torch.randn(2, frames, 5, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    settings = FORMS[name]
    pooler = filled(make_pooler(24, **settings))
    assert pooler.settings() == settings and set(POOLERS) >= {settings.get("form", "coca")}
    again = make_pooler(24, **pooler.settings())
    again.load_state_dict(pooler.state_dict())
    x = tokens()
    with torch.no_grad():
        out = pooler(x)
        assert out.shape == (2, pooler.out_features) and torch.equal(again(x), out)
        moved = (pooler(x.flip(1)) - out).std() / out.std()
        # The places of a frame are a set for all but the recurrent one, whose states have places.
        inside = (pooler(x.flip(2)) - out).std() / out.std()
        assert pooler(tokens(7)).shape == out.shape, "other lengths will do"
    assert (moved > 1e-2) == (name in ORDERED), f"{moved:.1e}"
    assert inside < 1e-5
    pooler.train()(x).square().sum().backward()
    silent = [n for n, p in pooler.named_parameters() if not p.grad.abs().max() > 0]
    assert not silent


def test_a_few_queries_read_tokens_as_attention_does() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 2 * 12).double()
    query, x = torch.randn(2, 3, 12).double(), torch.randn(2, 9, 24).double()
    both = []
    for plain in (True, False):
        given = [part.clone().requires_grad_() for part in (query, x)]
        layer.zero_grad()
        if plain:
            out = mix_heads(given[0], *layer(given[1]).chunk(2, dim=-1), heads=3)
        else:
            out = read_tokens(*given, *halves(layer), heads=3)
        out.square().sum().backward()
        both.append([out, *(part.grad for part in given), layer.weight.grad, layer.bias.grad])
    for want, found in zip(*both, strict=True):
        assert want.abs().max() > 0.1 and (found - want).abs().max() < 1e-12
    with torch.autocast("cpu", torch.bfloat16):
        rough = read_tokens(query.float(), x.float(), *halves(layer.float()), heads=3)
    assert (rough - both[0][0]).abs().max() < 0.05


@pytest.mark.parametrize("frozen_eps", [1e-5, pytest.param(1e-6, marks=pytest.mark.slow)])
def test_vjepa2_is_that_of_transformers(frozen_eps: float) -> None:
    from transformers import VJEPA2Config
    from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

    config = VJEPA2Config(
        hidden_size=48, num_attention_heads=4, num_pooler_layers=3, layer_norm_eps=frozen_eps
    )
    config._attn_implementation = "eager"
    theirs = VJEPA2AttentivePooler(config).eval()
    ours = filled(VJEPA2Pooler(48, blocks=4, heads=4))
    for module in ours.modules():
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-5
            module.eps = frozen_eps
    theirs.load_state_dict(_as_transformers(ours.state_dict()))
    x = torch.randn(2, 3, 6, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got, want = ours(x), theirs(x.flatten(1, 2))
    assert want.std() > 0.1 and (got - want).abs().max() < 1e-6 * want.abs().max()


def _as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """V-JEPA 2's names of tensors in transformers' words."""
    found = {}
    for key, value in state.items():
        name = key.replace("cross_attention_block", "cross_attention_layer")
        name = name.replace("blocks.", "self_attention_layers.")
        name = name.replace("norm1", "layer_norm1").replace("norm2", "layer_norm2")
        name = name.replace(".xattn.", ".cross_attn.").replace(".attn.", ".self_attn.")
        name = name.replace(".q.", ".q_proj.").replace("self_attn.proj", "self_attn.out_proj")
        for word, parts in ((".qkv.", "qkv"), (".kv.", "kv")):
            if word in name:
                chunks = value.chunk(len(parts))
                found |= {
                    name.replace(word, f".{p}_proj."): c for p, c in zip(parts, chunks, strict=True)
                }
                break
        else:
            found[name] = value
    return found


@pytest.mark.parametrize(
    ("pooler", "classes", "count"),
    [
        (lambda: VJEPA2Pooler(1024, blocks=4, heads=16), 174, 49_514_670),
        (lambda: VJEPA2Pooler(1024, blocks=4, heads=16), 400, 49_746_320),
        (lambda: VJEPA2Pooler(1024), 174, 11_725_998),
        (lambda: VJEPA2Pooler(768, blocks=4, heads=16), 174, 27_895_470),
        (lambda: VJEPA2Pooler(768), 174, 6_631_854),
        (lambda: ReadoutPooler(1024, readout=768), 174, 7_041_966),
        (lambda: GatedCore(1024, 4, 16), 0, 71_387_136),
        (lambda: GatedCore(768, 4, 12), 0, 40_171_008),
    ],
)
def test_published_sizes(pooler, classes: int, count: int) -> None:
    with torch.device("meta"):
        made = pooler()
        head = count_parameters(nn.Linear(made.out_features, classes)) if classes else 0
    assert count_parameters(made) + head == count


def test_initial_values() -> None:
    """Of a deeper branch the end is smaller; the last block's as that of the one before it."""
    torch.manual_seed(0)
    pooler = VJEPA2Pooler(96, blocks=4)
    ends = [(b.attn.proj.weight.std(), b.mlp.fc2.weight.std()) for b in pooler.blocks]
    for number, stds in enumerate(ends, start=1):
        for std in stds:
            assert std.item() == pytest.approx(0.02 / (2 * number) ** 0.5, rel=0.05)
    cross = pooler.cross_attention_block
    assert cross.mlp.fc2.weight.std().item() == pytest.approx(0.02 / 6**0.5, rel=0.05)
    assert cross.xattn.kv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not any(m.bias.any() for m in pooler.modules() if isinstance(m, nn.Linear))
    alone = VJEPA2Pooler(96).cross_attention_block.mlp.fc2.weight.std()
    assert alone.item() == pytest.approx(0.02 / 2**0.5, rel=0.05)


def test_a_gated_core_is_its_equations() -> None:
    """Two frames, with torch's own attention in the blocks."""
    core = GatedCore(16, 1, 4)
    for parameter in core.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape)
    block, x = core.blocks[0], torch.randn(2, 2, 5, 16)
    cross = _attention([block.cross.q, block.cross.kv], block.proj)
    own = _attention([block.attn.qkv], block.attn.proj)
    state = torch.zeros(2, 5, 16)
    for frame in x.unbind(1):
        u = (frame @ core.input_update.weight.T + state @ core.state_update.weight.T).sigmoid()
        r = (frame @ core.input_reset.weight.T + state @ core.state_reset.weight.T).sigmoid()
        seen = r * core.norm_state(state)
        h = frame + cross(block.norm_cross(frame), seen, seen)[0]
        h = h + block.mlp.fc2(nn.functional.gelu(block.mlp.fc1(block.norm_mlp(h))))
        normed = block.norm_self(h)
        h = core.norm_blocks(h + own(normed, normed, normed)[0])
        state = (1 - u) * state + u * h
    assert (core(x) - core.norm(state)).abs().max() < 1e-5
    epss = {n: m.eps for n, m in core.named_modules() if isinstance(m, nn.LayerNorm)}
    assert epss.pop("norm") == 1e-5 and set(epss.values()) == {1e-6}


def _attention(parts: list[nn.Linear], proj: nn.Linear) -> nn.MultiheadAttention:
    made = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        made.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        made.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        made.out_proj.weight.copy_(proj.weight)
        made.out_proj.bias.copy_(proj.bias)
    return made


def test_a_readout_is_attention() -> None:
    pooler = filled(ReadoutPooler(24, heads=2, readout=16, frames=3))
    x = tokens(3)
    normed = pooler.norm(x) + pooler.time.embed[0][:, None]
    flat = normed.flatten(1, 2)
    q = pooler.query_token.expand(2, -1, -1)
    heads = [t.unflatten(-1, (2, 8)) for t in (q, pooler.key(flat), pooler.value(flat))]
    weights = torch.einsum("bqhd,bshd->bhqs", heads[0] / 8**0.5, heads[1]).softmax(-1)
    read = torch.einsum("bhqs,bshd->bqhd", weights, heads[2]).flatten(2)
    y = q + pooler.proj(read)
    y = y + pooler.mlp(pooler.norm_mlp(y))
    assert (pooler(x) - y[:, 0]).abs().max() < 1e-5


def test_time_codes() -> None:
    code = sincos(3, 6)
    assert code.shape == (3, 6) and torch.equal(code[0], torch.tensor([0.0, 0, 0, 1, 1, 1]))
    one = torch.tensor(1.0)
    assert torch.allclose(code[1, [0, 3]], torch.stack([one.sin(), one.cos()]))
    assert torch.allclose(code[2, 2], (2 * one * 10000 ** (-2 / 3)).sin())
    assert sincos(2, 5)[:, 4].abs().max() == 0
    pooler = make_pooler(24, form="readout", time="learned", frames=4)
    ramp = torch.arange(4.0)[None, :, None].expand(1, 4, 24)
    pooler.time.embed.data = ramp.clone()
    added = pooler.time(torch.zeros(1, 8, 1, 24))[0, :, 0, 0]
    assert torch.allclose(added, torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]))
    assert VJEPA2Pooler(24, eps=1e-6).settings()["eps"] == 1e-6
    with pytest.raises(UsageError, match="time=sine is no time code"):
        VJEPA2Pooler(24, time="sine")
    with pytest.raises(UsageError, match="24 channels cannot be shared out among 5 heads"):
        GatedPooler(24, heads=5)


def test_folders_of_before_there_were_forms(tmp_path) -> None:
    """A pooler without a form is the one that there was, with its tensors' names."""
    import yaml

    import vidinit
    from vidinit.checkpoint import save_model

    torch.manual_seed(0)
    model = vidinit.create_model("c2d-test_resnet", num_classes=3).eval()
    model.set_pooler(make_pooler(model.num_features, blocks=2, heads=2))
    folder = save_model(model, tmp_path / "m")
    card = yaml.safe_load((folder / "model.yaml").read_text())
    assert card["pooler"] == {"blocks": 2, "heads": 2}
    loaded = vidinit.load(folder)
    clip = torch.randn(1, 3, 2, 32, 32)
    with torch.no_grad():
        assert type(loaded.pooler) is POOLERS["coca"] and torch.equal(loaded(clip), model(clip))
        query = model.pooler.query_token.expand(1, -1, -1)
        for block in model.pooler.blocks:
            query = block(query, model.tokens(clip))
        want = model.head(model.pooler.norm(query)[:, 0])
        assert torch.equal(model(clip), want)
