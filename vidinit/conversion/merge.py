"""`vidinit convert RUN --merge`: ZeroI2V's adapters folded into the image network's projections.

The result has the image network's parameters and multiply-adds, and a time embedding. Heads still
look at neighboring frames, which costs a copy and no operations.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoint import WEIGHTS, load_classifier, model_folder, read_card
from ..errors import UsageError
from ..zoo.adapters.blocks import ShiftedBlock
from ..zoo.adapters.merging import fold_adapters, why_not_merged
from ..zoo.adapters.model import AdapterModel
from .proof import Proof, moving_clip, still_frames
from .report import ConversionReport
from .table import Row

COMPARED = "moving clip, merged against unmerged"
OF_ADAPTERS = ("scale", "dropout")
"""Options of the plan that say something of its adapters alone."""


def merge(source: str) -> ConversionReport:
    """The model of a model or run folder with its adapters folded in, and the proof.

    Args:
        source: a model folder, or a run folder that holds one.

    Raises:
        UsageError: for a zoo name, and for a model whose adapters cannot be folded in.
    """
    folder = model_folder(source)
    if folder is None:
        raise UsageError(
            f"--merge needs a model or run folder, and '{source}' is a zoo name without weights",
            "give the folder of a zero-cost model",
        )
    model = load_classifier(folder)
    reason = why_not_merged(model)
    if reason or not isinstance(model, AdapterModel):
        raise UsageError(
            f"the adapters of {source} ({model.name}) cannot be merged: {reason}",
            "--merge is for models of the plan zero-cost whose projections have biases",
        )
    merged = _folded(model)
    proof = _compared(model, merged)
    folded = _changed(model, merged)
    rows = [
        Row("tower", "adapters folded in", "copied", folded),
        Row("tower", "copied as it is", "copied", len(merged.tower.state_dict()) - folded),
        Row("time_embed", "copied as it is", "copied", 1),
        Row("head", "copied as it is", "copied", len(merged.head.state_dict())),
    ]
    return ConversionReport(
        source=source,
        target=merged.name,
        weights=str(folder),
        model=merged,
        proof=proof,
        rows=[row for row in rows if row.tensors],
        notes=["the model folder holds the tower, too: its projections are no longer its own"],
        compared=COMPARED,
    )


def other_heads(source: str) -> dict[str, Any]:
    """Arguments of `save_model` for the heads that a folder has beside the model's own.

    Args:
        source: as for `merge`.
    """
    from safetensors.torch import load_file

    folder = model_folder(source)
    assert folder is not None
    card = read_card(folder).as_dict()
    kept: dict[str, Any] = {
        key: card[key] for key in ("head_classes", "merged", "source_clips") if key in card
    }
    state = load_file(folder / WEIGHTS)
    heads: dict[str, nn.Linear] = {}
    for key in state:
        if key.startswith("heads.") and key.endswith(".weight"):
            stem = key.removesuffix(".weight")
            heads[stem.removeprefix("heads.")] = _linear(state[key], state[f"{stem}.bias"])
    return {**kept, "heads": heads}


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _folded(model: AdapterModel) -> AdapterModel:
    """A copy whose adapters are folded in: what the plan makes with ``merged=True``."""
    merged = copy.deepcopy(model)
    for block in merged.modules():
        if isinstance(block, ShiftedBlock):
            fold_adapters(block)
    merged.adapters.clear()
    merged.reference = None  # the projections are others than the image network's now
    own = {key: value for key, value in model.options.items() if key not in OF_ADAPTERS}
    merged.options = {**own, "merged": True}
    merged.origins = {}
    return merged


def _changed(model: AdapterModel, merged: AdapterModel) -> int:
    """How many tensors of the tower are others now."""
    before, after = model.tower.state_dict(), merged.tower.state_dict()
    return sum(not torch.equal(value, before[key]) for key, value in after.items())


@torch.no_grad()
def _compared(model: AdapterModel, merged: AdapterModel) -> Proof:
    """Both on a moving clip and on a still one of another picture."""
    spec = model.spec
    clip = moving_clip(spec.frames, spec.size)
    still = still_frames(2, spec.size)[1:, :, None].expand_as(clip)
    clips = torch.cat([clip, still])
    want, got = model.eval()(clips), merged.eval()(clips)
    return Proof(
        float((got - want).abs().max()),
        float(want.abs().max()),
        float((want[0] - want[1]).abs().max()),
        spec.frames,
        spec.size,
    )


def check_alone(**given: Any) -> None:
    """Raise UsageError where options stand beside ``--merge`` that it takes no notice of.

    Args:
        given: by the keyword of `convert`, the values that are not its defaults.
    """
    if given:
        name = next(iter(given)).replace("_", "-")
        raise UsageError(
            f"--merge folds the adapters of a trained model into it and takes no --{name}",
            "leave it out",
        )
