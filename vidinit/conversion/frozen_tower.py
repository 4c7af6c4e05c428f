"""An image transformer becomes the frozen tower of a video model, which its folder may only name.

Most such models are the image network at first, and are proved like others. What is proved of
DiST is not that a still clip gets the image network's logits: the side network is new, and nothing
in it starts at zero. It is that the tower is timm's network to the bit, behind every block that is
read, and that no gradient reaches it.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..measure.flops import count_macs
from ..zoo.adapters.reference import is_refetchable, reference_to
from ..zoo.adapters.tower import Tower, has_projection
from ..zoo.adapters.tower_model import ReadTowerModel, TowerModel
from ..zoo.base import count_parameters, to_channels_last
from ..zoo.build import assemble
from ..zoo.dist_network.model import DistModel
from ..zoo.images.networks import ImageSource, timm_module
from ..zoo.names import Entry
from .proof import Proof, order_sensitivity, still_frames
from .report import ConversionReport
from .table import RULES, Row, stage_of


def tower_conversion(
    image: ImageSource,
    name: str,
    entry: Entry,
    *,
    reference: dict[str, str] | None,
    frames: int | None,
    device: torch.device | str,
    options: dict[str, Any],
) -> ConversionReport:
    """A DiST model whose tower is an image network, with the proof.

    Args:
        image: the network with its weights.
        name: of the model.
        entry: behind the name.
        reference: from `named_tower`.
        frames: of a clip; default: twice 8.
        device: where the proof is computed.
        options: of the model.

    Raises:
        UsageError: a network that is no tower.
    """
    kept = image.num_classes if has_projection(image.model) else 0
    if image.arguments:
        options = {"network": image.arguments, **options}
    options = {"projection": kept, **options}
    model = assemble(copy.deepcopy(image.model), entry, num_classes=0, name=name, **options)
    assert isinstance(model, DistModel)
    if frames is not None:
        model.spec = replace(model.spec, frames=frames)
        model.side.reset_parameters()
    model.reference = reference
    height, width = model.tower.image_size
    image_gmacs = count_macs(image.model, (1, 3, height, width)) / 1e9
    to_channels_last(model)
    proof = prove_tower(image.model, model, device)
    model.eval()
    return ConversionReport(
        source=image.arch,
        target=name,
        weights=image.weights,
        model=model,
        proof=proof,
        rows=_rows(model),
        notes=[*tower_notes(image, model), *_activation_notes(image)],
        image_params=count_parameters(image.model),
        image_gmacs=image_gmacs,
    )


def check_tower(name: str, entry: Entry, source: str) -> None:
    """Raise UsageError unless a source, by timm's name, is the network that a zoo name wants.

    Networks of the same shapes are not the same: CLIP's have two kinds of activations.
    """
    arch, _, tag = source.partition(".")
    if arch != entry.backbone:
        raise UsageError(
            f"'{name}' has the tower {entry.backbone}, not {arch}",
            _twin_advice(arch, tag)
            or f"give that as SOURCE, or use --to {entry.plan} for a tower of its own",
        )


def _rows(model: DistModel) -> list[Row]:
    counted: dict[tuple[str, str, str], int] = {}
    for key in model.state_dict():
        words, kind = RULES[model.origins[key].rule]
        row = (stage_of(key), words, kind)
        counted[row] = counted.get(row, 0) + 1
    return [Row(stage, words, kind, n) for (stage, words, kind), n in counted.items()]


def named_tower(
    image: ImageSource, source: str, weights: str | Path | None, whole: bool | None
) -> dict[str, str] | None:
    """A folder's entry for the network that becomes its tower; None where it is to hold it.

    Args:
        image: the network as it was loaded.
        source: the timm name it was loaded by.
        weights: the file its weights are from, or None.
        whole: True where the folder is to hold it; None: where it cannot be fetched again.

    Raises:
        UsageError: random weights that would be lost.
    """
    if whole is False and not image.pretrained:
        raise UsageError(
            "--no-whole: random weights cannot be had again", "leave it out: the folder holds them"
        )
    if whole is None:
        whole = not is_refetchable(source, weights, image.pretrained)
    return None if whole else reference_to(image, source, weights)


def tower_notes(image: ImageSource, model: TowerModel) -> list[str]:
    """Sentences on the trained parameters, and on where the tower is."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    notes = [f"{trained / 1e6:.2f} M parameters are trained, beside the frozen tower"]
    if model.reference is None:
        notes.append("the model folder holds the tower, too")
    else:
        notes.append(
            f"the model folder names its tower ({model.reference['name']}): --whole adds it"
        )
    if image.num_classes and model.options.get("projection") == 0:
        notes.append(f"the classifier of {image.num_classes} classes was left out")
    return notes


def _activation_notes(image: ImageSource) -> list[str]:
    """A note on weights of CLIP under a network of another activation."""
    cfg: Any = getattr(image.model, "pretrained_cfg", None) or {}
    advice = _twin_advice(image.arch, str(cfg.get("tag")))
    if not advice:
        return []
    return [f"these weights were trained with QuickGELU, {image.arch} has GELU: {advice}"]


def _twin_advice(arch: str, tag: str) -> str:
    """Which name to take for weights of CLIP that want another activation; empty for others."""
    twin = f"{arch.replace('_clip_', '_clip_quickgelu_')}.{tag}"
    if "quickgelu" in arch or "_clip_" not in arch:
        return ""
    return f"use {twin}" if twin in timm_module().list_pretrained(twin) else ""


def prove_tower(
    image_model: nn.Module,
    model: ReadTowerModel,
    device: torch.device | str = "cpu",
    count: int = 2,
) -> Proof:
    """Compare a tower's taps with what the blocks of the image network return; look for gradients.

    Both models end up on the CPU; the image network in the precision and layout of the tower.

    Args:
        image_model: takes (N, 3, S, S).
        model: made of it, its clips of the size the image network takes.
        device: where to compute.
        count: number of frames.
    """
    tower, size = model.tower, model.tower.image_size
    if tower.dtype is not None:
        image_model.to(tower.dtype)
    image_model.to(memory_format=torch.channels_last).to(device).eval()
    model.to(device)
    images = still_frames(count, max(size))[..., : size[0], : size[1]].to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    want, got = block_outputs(image_model, images, tower), tower(images)
    difference = max(float((a - b).abs().max()) for a, b in zip(got, want, strict=True))
    scale = max(float(tap.abs().max()) for tap in want)
    spread = max(float((tap[0] - tap[-1]).abs().max()) for tap in want)
    few = 1 if isinstance(model, DistModel) else count
    isolated = is_isolated(model, images[:few], [tap[:few] for tap in got])
    image_model.cpu()
    model.cpu()
    order = None
    if size[0] == size[1]:
        order = order_sensitivity(model, device, features=True)
    frames = model.spec.frames
    return Proof(difference, scale, spread, frames, max(size), isolated, order=order)


@torch.no_grad()
def block_outputs(image_model: Any, images: Tensor, tower: Tower) -> list[Tensor]:
    """Outputs of the blocks that a tower reads, in an ordinary forward pass of a network.

    Returns:
        (N, 1 + patches, C) each: the class token, or the mean of the patches, then the patches.
    """
    outputs: dict[int, Tensor] = {}
    hooks = [
        image_model.blocks[i].register_forward_hook(
            lambda _, __, out, i=i: outputs.update({i: out[0] if isinstance(out, tuple) else out})
        )
        for i in tower.blocks
    ]
    image_model(images.to(next(image_model.parameters()).dtype))
    for hook in hooks:
        hook.remove()
    prefix = int(image_model.num_prefix_tokens)
    tokens = [outputs[i] for i in tower.blocks]  # (N, prefix + patches, C) each
    first = [out[:, :1] if prefix else out.mean(dim=1, keepdim=True) for out in tokens]
    return [torch.cat([a, out[:, prefix:]], dim=1) for a, out in zip(first, tokens, strict=True)]


def is_isolated(model: ReadTowerModel, images: Tensor, taps: list[Tensor]) -> bool:
    """True where a backward pass gives the tower nothing, and all of the side network a gradient.

    Args:
        model: without gradients; it has none afterwards, and the statistics it had.
        images: frames (N, 3, H, W), of which still clips are made: one for DiST, several for a side
            network whose norms go by the batch.
        taps: what its tower returned for them.
    """
    if any(tap.requires_grad for tap in taps):
        return False
    model.train()
    frames = 2
    unread: tuple[str, ...] = ()
    if isinstance(model, DistModel):
        frames = model.clip_frames
        model.use_taps([tap.expand(model.side.frames, -1, -1) for tap in taps])
        unread = tuple(f"to_time.{len(taps) - 1}.{leaf}" for leaf in ("weight", "bias"))
    side: Any = model.side
    statistics = {name: buffer.clone() for name, buffer in side.named_buffers()}
    model.embed(images.unsqueeze(2).expand(-1, -1, frames, -1, -1)).square().sum().backward()
    for name, buffer in side.named_buffers():  # norms have learned nothing from this
        buffer.copy_(statistics[name])
    grads = [p.grad for name, p in side.named_parameters() if name not in unread]
    reached = all(grad is not None and bool(grad.any()) for grad in grads)
    leaked = any(p.grad is not None or p.requires_grad for p in model.tower.parameters())
    model.zero_grad(set_to_none=True)
    return reached and not leaked
