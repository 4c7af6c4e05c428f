"""ZeroI2V's names, in mmaction2: CLIP's with adapters among them, or without where they are merged.

A file holds the whole model. Adapters of AIM (`aim`) have the same names and are others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...zoo.adapters.attention import default_shift
from ...zoo.base import VideoModel
from .aim import EITHER, adapter_renamer, adapters_in
from .clip_names import PIXELS, TOWER, FrozenScheme, sized, tower_sizes
from .public_file import Candidate, PublicFile

LAYOUT = "zeroi2v"
ADAPTERS = {
    "attention_in": "T_Adapter_in",
    "attention_out": "S_Adapter",
    "mlp_in": "MLP_Adapter",
    "mlp_out": "MLP_Adapter_out",
}


def _find(file: PublicFile) -> Candidate | None:
    names, sizes = adapters_in(file, is_clip=True), tower_sizes(file)
    time = file.get("time_embed")
    if sizes is None or time is None or (names and "S_Adapter" not in names):
        return None
    refusal = sizes.problem
    if not file.asked and names and not {"MLP_Adapter_out", "T_Adapter_in"} & names:
        refusal = EITHER
    elif names - set(ADAPTERS.values()):
        other = ", ".join(sorted(names - set(ADAPTERS.values())))
        refusal = f"ZeroI2V has no {other}"
    elif names and set(ADAPTERS.values()) - names:
        missing = ", ".join(sorted(set(ADAPTERS.values()) - names))
        refusal = f"it has no {missing}, which all published configurations have"
    target, options, notes = sized("zero-cost", sizes)
    if not names:
        options["merged"] = True
        notes += ("it has no adapters: they are merged into the tower",)
    clip = {"size": sizes.size, "frames": int(time.shape[1])}
    return Candidate(target, options, refusal, notes, clip)


@dataclass(frozen=True)
class ZeroScheme(FrozenScheme):
    """The table: a merged model has no scale any more."""

    def untold(self, model: VideoModel) -> dict[str, Any]:
        """Options of a model that the files do not tell, with its values."""
        told = super().untold(model)
        if told["shift"] is None:
            blocks: Any = model.get_submodule(f"{TOWER}blocks")
            told["shift"] = default_shift(blocks[0].attn.num_heads)
        if model.options.get("merged"):
            del told["scale"]
        return told


SCHEMES = (
    ZeroScheme(
        LAYOUT,
        _find,
        adapter_renamer(ADAPTERS, is_clip=True),
        r"zero-cost[-@].+",
        PIXELS,
        None,
        plan="zero-cost",
        unsaid=("scale", "shift"),
    ),
)
