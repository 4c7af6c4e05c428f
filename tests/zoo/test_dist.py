from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from dist_equations import Equations
from dist_models import SIDE, clip_like_vit, clips, small_dist, small_vit
from zoo_support import on_meta

import vidinit
from vidinit.conversion.layouts.read_write import write_layout
from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.pipelines.finetune.task import ClassifyTask
from vidinit.zoo.dist_network.model import DistModel
from vidinit.zoo.images.networks import build_image_model
from vidinit.zoo.pair import PairModel
from vidinit.zoo.plans.dist import dist

B16, L14, L14_336 = "dist-b16", "dist-l14", "dist-l14-336"
VISUAL = {B16: 86_192_640, L14: 303_966_208, L14_336: 304_293_888}
TEXT = {B16: 63_428_096 + 1, L14: 123_650_304 + 1, L14_336: 123_650_304 + 1}
COUNTS = [  # model, T, A, tunable, all of CLIP with DiST, GMACs
    (B16, 8, 2, 19_001_184, 168_621_921, 162.87),
    (B16, 16, 2, 19_044_192, 168_664_929, 325.73),
    (B16, 32, 2, 19_130_208, 168_750_945, 651.46),
    (B16, 8, 4, 26_105_184, 175_725_921, 163.83),
    (B16, 16, 4, 26_154_336, 175_775_073, 327.65),
    (B16, 32, 4, 26_252_640, 175_873_377, 655.30),
    (L14, 8, 2, 32_505_696, 460_122_209, 707.00),
    (L14, 16, 2, 32_585_568, 460_202_081, 1414.00),
    (L14, 32, 2, 32_745_312, 460_361_825, 2828.00),
    (L14, 32, 4, 39_867_744, 467_484_257, 2832.98),
    (L14_336, 32, 4, 39_867_744, 467_811_937, 6650.91),
]


def quickly(cases: list[tuple], *quick: int) -> list:
    """Cases to parametrize with; all but the quick ones are marked as slow."""
    slow = pytest.mark.slow
    return [pytest.param(*case, marks=() if i in quick else slow) for i, case in enumerate(cases)]


@pytest.fixture(scope="module", params=[2, 3])
def model(request: pytest.FixtureRequest) -> DistModel:
    """A small model per gamma."""
    torch.manual_seed(0)
    return small_dist(frames=2 * request.param, gamma=request.param)


@pytest.mark.parametrize(
    ("name", "frames", "pools", "tunable", "total", "gmacs"), quickly(COUNTS, 0, 3, 8)
)
def test_counts(name: str, frames: int, pools: int, tunable: int, total: int, gmacs: float) -> None:
    """Published numbers. The 768- or 512-wide bias of timm's projection is zero in OpenAI's."""
    model = on_meta(name, frames=2 * frames, pools=pools)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    tower = sum(p.numel() for p in model.tower.parameters()) - model.num_features
    assert trained == sum(p.numel() for p in model.side.parameters()) == tunable
    assert tower == VISUAL[name]
    assert tower + trained + TEXT[name] == total
    assert model.num_classes == 0
    if (frames, pools) == (8, 2):
        # Counted there, and not run here: the patch embedding of frames that the tower does not
        # see, and the last to_time, which nobody reads.
        patches = (model.spec.size // model.tower.patch) ** 2 * frames
        unseen = patches * (3 * model.tower.patch**2 * model.tower.width + 384 * 96)
        clip = (1, 3, 2 * frames, model.spec.size, model.spec.size)
        assert (count_macs(model, clip) + unseen) / 1e9 == pytest.approx(gmacs, rel=1e-4)


def test_the_count_without_the_temporal_encoder() -> None:
    """Its stem, its blocks and both ways between it and the integration are gone, nothing else.

    The parts' counts are those of the authors' network for B/16 and 8 frames of the tower.
    """
    stem, to_time, to_space, blocks = 368_736, 443_520, 926_208, 1_331_712
    model = on_meta(B16, frames=16, pools=2, temporal_dim=0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 19_001_184 - stem - to_time - to_space - blocks == 15_931_008


def test_without_the_temporal_encoder_frames_between_are_seen_by_nobody() -> None:
    torch.manual_seed(0)
    model = small_dist(frames=4, temporal_dim=0)
    clip = clips(frames=4)
    with torch.no_grad():
        one = model(clip)
        other = clip.clone()
        other[:, :, 1::2] = 0
        assert torch.equal(model(other), one)
        assert not torch.equal(model(clip.flip(2)), one), "mix blocks still see the order"
    model.train()
    model(clip).square().sum().backward()
    missing = [n for n, p in model.side.named_parameters() if p.grad is None]
    assert missing == []


def test_a_frame_more_costs_a_token_in_each_layer() -> None:
    one, two = (on_meta(B16, frames=2 * t, pools=4) for t in (8, 9))
    count = [sum(p.numel() for p in model.side.parameters()) for model in (one, two)]
    assert count[1] - count[0] == 384 * (12 + 4)


@pytest.mark.parametrize("frames", quickly([(8,), (16,), (32,)], 0))
def test_shapes(frames: int) -> None:
    model = on_meta(B16, frames=2 * frames)
    seen: dict[str, torch.Size] = {}
    for name, module in (
        ("z", model.side.temporal[5]),
        ("m", model.side.reduce[5]),
        ("r", model.side.mix[5]),
        ("s", model.side.pools[0].over_space),
        ("a", model.side.pools[0].over_time),
    ):
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.shape}))
    out = model(torch.empty(3, 3, 2 * frames, 224, 224, device="meta"))
    assert seen["z"] == (3 * 2 * frames, 96, 14, 14)
    assert seen["m"] == seen["r"] == (3 * frames, 197, 384)
    assert (seen["s"], seen["a"]) == ((3 * frames, 1, 384), (3, 1, 384))
    assert model.side.pools[0].pos_embed.shape == model.side.to_space[3].token.shape
    assert model.side.to_space[3].token.shape == (1, frames, 384)
    assert out.shape == (3, 512)


@pytest.mark.parametrize(
    ("name", "tokens", "joint"), quickly([(L14, 257, 768), (L14_336, 577, 768)])
)
def test_shapes_of_large_towers(name: str, tokens: int, joint: int) -> None:
    model = on_meta(name, frames=16)
    size = model.spec.size
    frames = torch.empty(8, 3, size, size, device="meta")
    assert {tuple(tap.shape) for tap in model.tower(frames)} == {(8, tokens, 1024)}
    assert model(torch.empty(1, 3, 16, size, size, device="meta")).shape == (1, joint)


def check_equations(bound: float) -> None:
    """Ours against the paper's, from a file that we wrote."""
    model = small_dist(clip_like_vit())
    model.tower.vit.head.bias.data.zero_()
    model.name = B16
    video = clips(2)
    taps = [tap.transpose(0, 1) for tap in model.tower(model.tower_frames(video))]
    want = Equations(write_layout(model, "dist"), gamma=2)(taps, video)
    assert (model(video) - want).abs().max() < bound * want.abs().max()


def test_equals_the_equations(float64: None) -> None:
    check_equations(1e-10)


def test_equals_the_equations_in_single_precision() -> None:
    check_equations(1e-5)


# ------------------------------------------------------------------ structure


@torch.no_grad()
def test_frames_between_reach_the_side_network_only(model: DistModel) -> None:
    gamma, video = model.side.gamma, clips(1, model.clip_frames)
    other = video.clone()
    other[:, :, 1::gamma] += 1.0
    taps = [model.tower(model.tower_frames(x)) for x in (video, other)]
    assert all(torch.equal(a, b) for a, b in zip(*taps, strict=True))
    assert not torch.allclose(model(video), model(other), atol=1e-3)


@torch.no_grad()
def test_order_matters_and_the_batch_does_not(model: DistModel) -> None:
    video = clips(2, model.clip_frames)
    both, alone = model(video), torch.cat([model(video[:1]), model(video[1:])])
    assert (both - alone).abs().max() < 1e-4 * both.abs().max()
    assert not torch.allclose(model(video.flip(2)), both, atol=1e-2)


@torch.no_grad()
def test_mix_blocks_have_no_identity() -> None:
    model = small_dist()
    taps, video = model.tower(model.tower_frames(clips(1))), clips(1)
    seen = {}
    model.side.mix[-1].register_forward_hook(
        lambda _, given, out: seen.update(u=given[0].clone(), r=out.clone())
    )
    for block in model.side.mix:
        for layer in (block.fc2, block.time_out):
            layer.weight.zero_()
            layer.bias.zero_()
    model.frames.value, model.coarse.value = 4, 2
    y, _ = model.side(taps, video[0].transpose(0, 1))
    assert not seen["r"].any() and torch.equal(y, seen["u"])


@torch.no_grad()
def test_the_streams_meet_at_two_places_only() -> None:
    video = clips(1)
    model = small_dist()
    for layer in model.side.to_time:
        layer.weight.zero_()
        layer.bias.zero_()
    streams = []
    model.side.temporal[-1].register_forward_hook(lambda _, __, out: streams.append(out.clone()))
    for _ in range(2):
        model(video)
        model.tower.vit.blocks[0].mlp.fc2.bias.add_(1.0)
    assert torch.equal(*streams)  # no to_time: Z knows nothing of the tower
    model = small_dist()
    for layer in model.side.to_space:
        for parameter in layer.parameters():
            parameter.zero_()
    other = video.clone()
    other[:, :, 1::2] += 1.0
    assert torch.equal(model(video), model(other))  # no to_space: the frames between are unseen


@torch.no_grad()
def test_what_is_sent_to_time_is_constant_over_gamma_frames(model: DistModel) -> None:
    """Zero temporal blocks let through what is sent, less the activation: it shows in the sum."""
    gamma, sent, read = model.side.gamma, [], []
    model.side.to_time[0].register_forward_hook(lambda _, __, out: sent.append(out))
    model.side.temporal[0].register_forward_hook(lambda _, __, out: read.append(out))
    model.side.temporal[1].register_forward_pre_hook(lambda _, given: read.append(given[0]))
    model(clips(2, model.clip_frames))
    added = (read[1] - read[0]).unflatten(0, (-1, gamma))
    for frame in range(gamma):
        flat = added[:, frame].permute(0, 2, 3, 1).flatten(1, 2)
        torch.testing.assert_close(flat, sent[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_global_place_gets_the_learned_token_whatever_the_input(model: DistModel) -> None:
    made = []
    layer = model.side.to_space[1]
    layer.register_forward_hook(lambda _, __, out: made.append(out[:, 0]))
    model(clips(2, model.clip_frames))
    assert torch.equal(made[0], layer.token[0].repeat(2, 1))


# ------------------------------------------------------------------ gradients


def test_gradients() -> None:
    model = small_dist().train()
    assert not any(m.training for m in model.tower.modules())
    video = clips(1).requires_grad_()
    taps = model.tower(model.tower_frames(video))
    assert not any(tap.requires_grad or tap.grad_fn is not None for tap in taps)
    model(video).square().sum().backward()
    assert all(p.grad is None for p in model.tower.parameters())
    without = [name for name, p in model.side.named_parameters() if p.grad is None]
    assert without == ["to_time.2.weight", "to_time.2.bias"]
    assert video.grad is not None and video.grad.any()
    through_stem = video.grad.clone()
    with torch.no_grad():
        model.side.stem.weight.zero_()
    video.grad = None
    model(video).square().sum().backward()
    assert through_stem.any() and not video.grad.any()


def test_the_memory_of_a_backward_pass() -> None:
    """Bytes saved for it with the tower frozen, and with gradients through it, at full size."""
    with torch.device("meta"):
        model = dist(build_image_model("vit_base_patch16_clip_quickgelu_224"), pools=4)
    video = torch.empty(1, 3, 16, 224, 224, device="meta")
    frozen = saved_bytes(lambda: model(video))
    model.tower.requires_grad_(True)

    def unfrozen() -> torch.Tensor:
        found = model.tower.vit.forward_intermediates(
            model.tower_frames(video),
            return_prefix_tokens=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        model.use_taps([torch.cat([prefix, patches], dim=1) for patches, prefix in found])
        return model(video)

    assert frozen < 0.4 * saved_bytes(unfrozen)


def saved_bytes(run: Callable[[], torch.Tensor]) -> int:
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[id(tensor.untyped_storage())] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_one_batch_is_learned_and_chance_is_where_it_should_be() -> None:
    classes, video = 4, clips(4)
    model = small_dist(num_classes=classes)
    label = torch.arange(classes)
    task = ClassifyTask(model).train()
    losses = []
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    torch.nn.init.zeros_(model.head.weight)
    for _ in range(40):
        loss = task({"clip": video, "label": label})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.tensor(float(classes)).log())
    assert losses[-1] < 0.1


# ------------------------------------------------------------------ heads and clips


@torch.no_grad()
def test_a_text_head_gives_scaled_cosines() -> None:
    model = small_dist(clip_like_vit())
    video, names = clips(2), ["a", "b", "c"]
    embedding = model(video)
    assert embedding.shape == (2, 64) and torch.equal(model.embed(video), embedding)
    texts = torch.randn(3, 64)
    model.set_text(3 * texts, names, logit_scale=50.0)
    want = 50 * torch.cosine_similarity(embedding[:, None], texts[None], dim=-1)
    torch.testing.assert_close(model(video), want)
    assert model(video).abs().max() <= 50 and (model.num_classes, model.classes) == (3, names)
    torch.testing.assert_close(model.head(7 * embedding), want)
    assert {"head.embeddings", "head.logit_scale"} <= set(model.state_dict())
    assert not list(model.head.parameters())
    with pytest.raises(UsageError, match="64 dimensions"):
        model.set_text(torch.randn(3, 16), names)
    with pytest.raises(UsageError, match="2 classes"):
        model.set_text(texts, names[:2])
    model.reset_head(5)
    assert model(video).shape == (2, 5) and model.classes is None


def test_untrained_loss_of_a_text_head_is_above_chance() -> None:
    """With a scale of 100 random cosines are confident, and wrong."""
    model = small_dist(clip_like_vit())
    model.set_text(torch.randn(4, 64), list("abcd"))
    loss = torch.nn.functional.cross_entropy(model(clips(8)), torch.arange(8) % 4)
    assert loss > torch.tensor(4.0).log()


@torch.no_grad()
def test_a_verb_and_a_noun() -> None:
    model = small_dist(num_classes=3)
    pair = PairModel(model, torch.nn.Linear(model.num_features, 5), list("abcde"))
    out = pair(clips(2))
    assert (out["verb"].shape, out["noun"].shape) == ((2, 3), (2, 5))


@torch.no_grad()
def test_the_towers_own_embedding() -> None:
    model = small_dist(clip_like_vit())
    video, texts = clips(2), torch.nn.functional.normalize(torch.randn(3, 64), dim=-1)
    frames = model.tower.vit(video[:, :, ::2].transpose(1, 2).flatten(0, 1))
    cosines = torch.nn.functional.normalize(frames, dim=-1) @ texts.mT
    own = model.tower_embedding(video)
    torch.testing.assert_close(own @ texts.mT, cosines.view(2, 2, 3).mean(1))
    both = model.embed_both(video)
    torch.testing.assert_close(both[0], model.embed(video))
    torch.testing.assert_close(both[1], own)


@torch.no_grad()
def test_other_clips() -> None:
    model = small_dist()
    with pytest.raises(ValueError, match="clips of 4 frames, got 6"):
        model(clips(1, 6))
    tokens = model.side.to_space[0].token.clone()
    model.spec = replace(model.spec, frames=8, size=2 * SIDE)
    assert model(clips(1, 8, 2 * SIDE)).shape == (1, 48)
    assert model.side.to_space[0].token.shape == (1, 4, 64)
    want = torch.nn.functional.interpolate(tokens.mT, 4, mode="linear").mT
    torch.testing.assert_close(model.side.to_space[0].token, want)
    assert model.tokens(clips(1, 8, 2 * SIDE)).shape == (1, 4 * (1 + 16), 48)
    with pytest.raises(UsageError, match="gamma=2"):
        model.spec = replace(model.spec, frames=7)
    with pytest.raises(UsageError, match="patches of 16 pixels"):
        model.spec = replace(model.spec, size=40)


def test_layers_and_temporal_parameters() -> None:
    model = small_dist(num_classes=2, blocks=[0, 2])
    layers = model.layer_ids()
    assert set(layers) == {name for name, _ in model.named_parameters()}
    assert layers["side.stem.weight"] == layers["tower.vit.patch_embed.proj.weight"] == 0
    assert layers["side.reduce.1.weight"] == layers["tower.vit.blocks.2.norm1.weight"] == 3
    assert layers["side.pools.0.pos_embed"] == layers["head.weight"] == 4
    temporal = model.temporal_parameters()
    assert {"side.stem.weight", "side.to_space.0.weight", "side.mix.1.time.weight"} <= temporal
    assert not any(name.startswith(("tower.", "side.reduce.", "head.")) for name in temporal)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0}, "gamma must be at least 1"),
        ({"dim": 100}, "no multiple of 64"),
        ({"pools": 0}, "pools must be at least 1"),
        ({"temporal_dim": -1}, "temporal_dim must be at least 0"),
        ({"pools": 99}, "pools=99 is more than 48"),
        ({"blocks": [3]}, r"blocks=\[3\]"),
        ({"blocks": [1, 0]}, r"blocks=\[1, 0\]"),
        ({"tower_precision": "fp8"}, "tower_precision"),
    ],
)
def test_options_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dist(small_vit(), **options)


def test_names_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="cannot be a tower"):
        vidinit.create_model("dist-resnet18")
    with pytest.raises(UsageError, match="no option 'cut'"):
        vidinit.create_model("dist@top:2-vit_tiny_patch16_224")
    with pytest.raises(UsageError, match="RGB only"):
        vidinit.create_model("dist-vit_tiny_patch16_224", in_channels=2)
