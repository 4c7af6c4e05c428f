"""The number of the layer that each parameter of a network belongs to.

Layer-wise learning rates and drop path go by it: 0 is the stem with the embeddings, L blocks are 1
to L, and what comes after the last block, the head included, is L + 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from ...errors import UsageError
from ..images.networks import timm_module

if TYPE_CHECKING:
    from ..base import VideoModel


def numbered(model: nn.Module, layers: Sequence[Sequence[str]]) -> dict[str, int]:
    """Layers by parameter name, from the names of the modules of each layer; the rest is last."""
    start_of = {f"{part}.": i for i, parts in enumerate(layers) for part in parts}
    return {
        name: next((i for start, i in start_of.items() if name.startswith(start)), len(layers))
        for name, _ in model.named_parameters()
    }


def by_blocks(model: VideoModel) -> dict[str, int]:
    """One layer per module with the attribute ``is_block``, in the order they are registered.

    Raises:
        UsageError: when there is none.
    """
    blocks = [name for name, m in model.named_modules() if getattr(m, "is_block", False)]
    if not blocks:
        raise _unknown(model)
    layers: dict[str, int] = {}
    done: list[str] = []
    for name, _ in model.named_parameters():
        if name.startswith("head."):  # registered before the trunk
            layers[name] = len(blocks) + 1
            continue
        block = next((b for b in blocks if name.startswith(f"{b}.")), None)
        if block is not None and block not in done:
            done.append(block)
        behind = block is None and len(done) == len(blocks)
        layers[name] = len(done) + behind
    return layers


def by_timm(model: VideoModel, trunk: nn.Module) -> dict[str, int]:
    """The groups that timm gives the layers of an image network, which is the model's ``trunk``.

    They are told by the beginnings of names, so temporal kernels fall to the layer they stand in.
    One thing differs from timm: norms and convolutions behind the last block, which timm counts to
    it, are final here, as in MAE's and VideoMAE's fine-tuning.

    Raises:
        UsageError: when the network does not say what its layers are.
    """
    timm_module()
    from timm.models._manipulate import group_with_matcher

    matcher: Any = getattr(trunk, "group_matcher", None)
    if matcher is None:
        raise _unknown(model)
    rules = matcher(coarse=False)
    if isinstance(rules, dict):
        rules = {key: _without_final(rule) for key, rule in rules.items()}
    names = [(name, None) for name, _ in trunk.named_parameters()]
    # The head, under a name that no rule knows: it is behind everything.
    groups: dict[str, int] = group_with_matcher(iter([*names, ("", None)]), rules, reverse=True)
    return {
        name: groups[name.removeprefix("trunk.") if name.startswith("trunk.") else ""]
        for name, _ in model.named_parameters()
    }


def _without_final(rule: Any) -> Any:
    """A list of timm's rules (pattern, group) less those that append to the very last block.

    Their group is `MATCH_PREV_GROUP` and their patterns hold no number; with a number they append
    to the end of a stage.
    """
    from timm.models._manipulate import MATCH_PREV_GROUP

    if not isinstance(rule, (list, tuple)):
        return rule
    return [
        (pattern, group)
        for pattern, group in rule
        if group != MATCH_PREV_GROUP or re.compile(pattern).groups
    ]


def _unknown(model: VideoModel) -> UsageError:
    return UsageError(
        f"the layers of {model.name or type(model).__name__} are not known, so their learning "
        "rates cannot be told apart",
        "leave out train.layer_decay",
    )
