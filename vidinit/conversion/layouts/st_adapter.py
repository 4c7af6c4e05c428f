"""ST-Adapter's names: adapters and classifier among the blocks of OpenAI's CLIP.

A file holds what was trained alone: its tower is CLIP's, from a file of its own. An adapter before
the last block's MLP moves patches that no block attends to any more, and a head that reads the
class token does not see them: published files have one, and it is kept, without effect.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...zoo.base import VideoModel
from ...zoo.plans.st_adapter import st_adapter
from .clip_names import PIXELS, TOWER, FrozenScheme, clip_key, sized, tower_sizes
from .public_file import Candidate, PublicFile

PLACES = {"before_attention": "adapter_pre_attn", "before_mlp": "adapter_pre_mlp"}
LAYERS = {"down": "fc1", "conv": "conv", "up": "fc2"}
ADAPTER = re.compile(r"adapters\.(\d+)\.(\w+)\.((?:down|conv|up)\.(?:weight|bias))")
KERNEL = re.compile(r"transformer\.resblocks\.(\d+)\.(adapter_pre_(?:attn|mlp))\.conv\.weight")
WIDTHS = {(768, 12): "st-adapter-b16", (1024, 24): "st-adapter-l14"}
"""Zoo names by the width of a token and the number of blocks."""
OPTION = {frozenset(PLACES.values()): "both", frozenset({"adapter_pre_mlp"}): "mlp"}
"""The plan's option ``places`` by the adapters of a file."""
FRAMES = 8  # of its recipes; files for other clips look the same


def _public_key(key: str) -> str | None:
    if key.startswith(TOWER):
        return clip_key(key.removeprefix(TOWER))
    first, _, rest = key.partition(".")
    if first == "head":
        return f"fc.{rest}"
    adapter = ADAPTER.fullmatch(key)
    if adapter is None or adapter[2] not in PLACES:
        return None
    layer, _, leaf = adapter[3].partition(".")
    return f"transformer.resblocks.{adapter[1]}.{PLACES[adapter[2]]}.{LAYERS[layer]}.{leaf}"


@dataclass(frozen=True)
class StAdapterScheme(FrozenScheme):
    """The table: the tower is elsewhere, and files have an adapter that models can do without."""

    def is_leftover(self, key: str) -> bool:
        """True for a public key without a place in our models: none in the tower's blocks."""
        return not key.startswith("transformer.resblocks.") and super().is_leftover(key)

    def difference(self, model: VideoModel) -> str:
        """Why the code base cannot hold this model of its plan; empty where it can."""
        blocks = {int(match[1]) for match in _adapters(model).values()}
        if blocks != set(range(min(blocks), _depth(model))):
            return "there it is the last blocks that have adapters"
        return ""

    def added(self, model: VideoModel) -> dict[str, Tensor]:
        """The adapter before the last MLP, where a model does without: zeros, which add nothing."""
        adapters, state = _adapters(model), model.state_dict()
        last = f"adapters.{_depth(model) - 1}.before_mlp."
        if any(key.startswith(last) for key in adapters):
            return {}
        if model.options.get("places", "both") not in OPTION.values():
            return {}
        alike = {match[3]: torch.zeros_like(state[key]) for key, match in adapters.items()}
        return {str(_public_key(last + layer)): value for layer, value in alike.items()}


def _adapters(model: VideoModel) -> dict[str, re.Match[str]]:
    """The adapters' tensors of a model, by key."""
    return {key: match for key in model.state_dict() if (match := ADAPTER.fullmatch(key))}


def _depth(model: VideoModel) -> int:
    """Blocks of a model's tower."""
    return len(model.get_submodule(f"{TOWER}blocks"))  # type: ignore[arg-type]


def _find(file: PublicFile) -> Candidate | None:
    kernels = [match for key in file.state if (match := KERNEL.fullmatch(key))]
    if not kernels:
        return None
    names = frozenset(match[2] for match in kernels)
    blocks = sorted({int(match[1]) for match in kernels})
    first = f"transformer.resblocks.{blocks[-1]}.{min(names)}."
    down, kernel = file.state.get(f"{first}fc1.weight"), file.state.get(f"{first}conv.weight")
    if down is None or kernel is None or down.dim() != 2 or kernel.dim() != 5:
        return Candidate("st-adapter-b16", refusal=f"{first}* is no adapter of ST-Adapter's")
    options: dict[str, Any] = {
        "width": len(down),
        "kernel": ",".join(str(size) for size in kernel.shape[2:]),
        "places": OPTION.get(names),
        "unread": "adapter_pre_mlp" in names,
    }
    if blocks[0] > 0:
        options["cut"] = f"top:{len(blocks)}"
    defaults = inspect.signature(st_adapter).parameters
    options = {key: value for key, value in options.items() if value != defaults[key].default}
    refusal = ""
    told = f"the file does not tell its frames: {FRAMES}, as in its recipes; --frames is others"
    notes: tuple[str, ...] = (told,)
    if OPTION.get(names) is None:
        refusal = "its adapters are before the attention alone, and no model has them so"
    elif blocks != list(range(blocks[0], blocks[-1] + 1)):
        refusal = "its adapters are in blocks that do not follow one another"
    if options.get("unread"):
        notes += (f"{first.rsplit('.', 2)[0]}.adapter_pre_mlp is kept: it has no effect there",)
    sizes = tower_sizes(file)
    if sizes is None:
        tower = (int(down.shape[1]), blocks[-1] + 1)
        target = WIDTHS.get(tower, "st-adapter-b16")
        return Candidate(target, options, refusal, notes, {"frames": FRAMES}, tower=tower)
    if sizes.depth != blocks[-1] + 1:
        refusal = f"its adapters end with block {blocks[-1]}, its tower has {sizes.depth} blocks"
    target, network, more = sized("st-adapter", sizes)
    clip = {"size": sizes.size, "frames": FRAMES}
    return Candidate(target, {**options, **network}, refusal or sizes.problem, notes + more, clip)


SCHEMES = (
    StAdapterScheme(
        "st-adapter",
        _find,
        _public_key,
        r"st-adapter[-@].+",
        PIXELS,
        None,
        plan="st-adapter",
        apart=TOWER,
    ),
)
