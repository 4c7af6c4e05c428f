"""Side4Video's names: CLIP's image tower and, among its modules, the side network.

A file holds the model as it runs: the tower without its last norm and its projection, the side
network with the statistics of its batch norms, and the classifier ``fc``. Which blocks of the tower
are read is not in it: with fewer side blocks than the tower has blocks it is the last ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from torch import Tensor

from ...zoo.adapters.side_model import SideModel
from ...zoo.base import VideoModel
from ...zoo.plans.side4video import width_for
from .clip_names import PIXELS, TOWER, FrozenScheme, clip_key, sized, tower_sizes
from .public_file import Candidate, PublicFile

ROOT = "visual."
OUTER = {
    "stem": "side_conv1",
    "stem_norm": "side_pre_bn3d",
    "pos_embed": "transformer.side_spatial_position_embeddings",
    "norm": "side_post_bn",
}
LISTS = {"norm_read": "side_lns", "read": "side_linears"}
"""Modules of a side block that stand in lists of their own there."""
INSIDE = {
    "conv.norm": "bn_1",
    "conv.mix_in": "conv.0",
    "conv.time": "conv.1",
    "conv.mix_out": "conv.2",
    "norm_attn": "ln_1",
    "attn.out_proj": "attn.out_proj",
    "attn": "attn",  # the projections into it are parameters of its own
    "norm_mlp": "bn_2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(\w+)")
KERNEL = re.compile(r"side\.blocks\.\d+\.conv\.(mix_in|time|mix_out)\.weight")
LAST_NORM = (f"{TOWER}norm.weight", f"{TOWER}norm.bias")
"""Of the tower: nothing reads it."""

FRAMES = 8  # of all published files; none tells it


def _public_key(key: str) -> str | None:
    if key.startswith("head."):
        return f"fc.{key.removeprefix('head.')}"
    found = None
    if key.startswith(TOWER) and key not in LAST_NORM:
        found = clip_key(key.removeprefix(TOWER))
    elif key.startswith("side."):
        found = _side_key(key.removeprefix("side."))
    return None if found is None else ROOT + found


def _side_key(key: str) -> str | None:
    first, dot, leaf = key.partition(".")
    if first in OUTER:
        return f"{OUTER[first]}{dot}{leaf}"
    match = BLOCK.fullmatch(key)
    if match is None:
        return None
    number, layer, leaf = match.groups()
    if layer in LISTS:
        return f"transformer.{LISTS[layer]}.{number}.{leaf}"
    if layer not in INSIDE:
        return None
    return f"transformer.side_transformer.{number}.{INSIDE[layer]}.{leaf}"


class Side4VideoScheme(FrozenScheme):
    """The table: mixes of channels are 3-D convolutions there, embeddings have fewer axes."""

    def public_shape(self, key: str, module: object, shape: Sequence[int]) -> tuple[int, ...]:
        """The public shape of our tensor ``key``."""
        if key == "side.pos_embed":
            return tuple(shape[1:])
        shape = super().public_shape(key, module, shape)
        kernel = KERNEL.fullmatch(key) is not None
        return (*shape, *(1 for _ in range(5 - len(shape)))) if kernel else shape

    def absent_value(self, tensor: Tensor) -> Tensor:
        """The tower's last norm stays as it is in a new model."""
        return tensor

    def refusal(self, model: VideoModel) -> str:
        """Why the code base cannot hold this model; empty where it can."""
        if isinstance(model, SideModel) and model.fuse_side is not None:
            return "there the head reads the side network alone: fusion=none"
        return super().refusal(model)

    def difference(self, model: VideoModel) -> str:
        """Nothing: a cut has fewer side blocks there, too."""
        return ""


def _find(file: PublicFile) -> Candidate | None:
    stem, read = file.get("side.stem.weight"), file.get("side.blocks.0.read.weight")
    positions = file.get("side.pos_embed")
    if stem is None or read is None or positions is None:
        return None
    sizes = tower_sizes(file)
    if sizes is None:
        return Candidate("side4video-b16", refusal="its tower is not in it: only the side network")
    name, options, notes = sized("side4video", sizes)
    found = Candidate(name, {"fusion": "none", **options}, notes=notes)
    grid = math.isqrt(len(positions))
    found.clip = {"size": grid * sizes.patch, "frames": FRAMES, "sampling": "uniform"}
    found.notes += (f"the file does not tell its frames: {FRAMES}, as of all that are published",)
    if len(read) != width_for(sizes.width):
        found.options["width"] = len(read)
    blocks = 0
    while file.get(f"side.blocks.{blocks}.read.weight") is not None:
        blocks += 1
    if blocks < sizes.depth:
        found.options["cut"] = f"top:{blocks}"
        found.notes += (
            f"the file does not tell which of the tower's {sizes.depth} blocks its {blocks} side "
            "blocks read: the last ones here",
        )
    return found


SCHEMES = (
    Side4VideoScheme(
        "side4video",
        _find,
        _public_key,
        "",
        PIXELS,
        absent=LAST_NORM,
        plan="side4video",
    ),
)
