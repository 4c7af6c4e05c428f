"""AIM's names, in mmaction2: CLIP's or those of a ViT of ImageNet, with adapters among them.

A file holds the whole model. Adapters of ZeroI2V (`zeroi2v`) have the same names and are others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...zoo.images.networks import timm_module
from ...zoo.spec import ClipSpec
from .clip_names import PIXELS, TOWER, FrozenScheme, clip_key, sized, told_sizes, tower_sizes
from .public_file import Candidate, PublicFile
from .scheme import Rename
from .timesformer import VITS

LAYOUT = "aim"
ADAPTERS = {
    "time_in": "T_Adapter_in",
    "time": "T_Adapter",
    "space": "S_Adapter",
    "mlp": "MLP_Adapter",
}
LAYERS = {"down": "D_fc1", "up": "D_fc2"}
CLIP_BLOCK, VIT_BLOCK = "transformer.resblocks", "blocks"
HALF = ClipSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""Pixel statistics of timm's ViTs of ImageNet."""
EITHER = "its adapters could be AIM's or ZeroI2V's, which are different: --layout says whose"
"""Why a file with ``S_Adapter`` and ``MLP_Adapter`` alone is not read."""


def adapter_renamer(adapters: Mapping[str, str], *, is_clip: bool) -> Rename:
    """The names of mmaction2's models with adapters.

    Args:
        adapters: our places in a block, and the names of their adapters.
        is_clip: True for OpenAI's names of the tower, False for timm's.
    """
    block = CLIP_BLOCK if is_clip else VIT_BLOCK

    def public_key(key: str) -> str | None:
        if key.startswith(TOWER):
            inside = key.removeprefix(TOWER)
            found = clip_key(inside) if is_clip else vit_key(inside)
            return None if found is None else f"backbone.{found}"
        if key == "time_embed":
            return "backbone.temporal_embedding"
        first, _, rest = key.partition(".")
        if first == "head":
            return f"cls_head.fc_cls.{rest}"
        adapter = re.fullmatch(r"adapters\.(\d+)\.(\w+)\.(down|up)\.(weight|bias)", key)
        if adapter is None or adapter[2] not in adapters:
            return None
        name = f"{adapters[adapter[2]]}.{LAYERS[adapter[3]]}.{adapter[4]}"
        return f"backbone.{block}.{adapter[1]}.{name}"

    return public_key


def vit_key(key: str) -> str | None:
    """AIM's name of a tensor of timm's plain ViT: timm's own, but for the last norm."""
    if re.fullmatch(r"norm\.(weight|bias)", key):
        return f"ln_post.{key.rpartition('.')[2]}"
    plain = r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|blocks\.\d+\.(norm1|norm2|"
    plain += r"attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
    return key if re.fullmatch(plain, key) else None


def adapters_in(file: PublicFile, *, is_clip: bool) -> set[str]:
    """Names of the adapters in a file's blocks, whoever's they are."""
    block = re.escape(CLIP_BLOCK if is_clip else VIT_BLOCK)
    adapter = re.compile(rf"backbone\.{block}\.\d+\.(\w*Adapter\w*)\.D_fc1\.weight")
    return {match[1] for key in file.state if (match := adapter.fullmatch(key))}


def _find(file: PublicFile) -> Candidate | None:
    scheme = file.scheme
    assert isinstance(scheme, FrozenScheme)
    names, sizes = adapters_in(file, is_clip=scheme.is_clip), tower_sizes(file)
    if not names <= set(ADAPTERS.values()) or not {"S_Adapter", "MLP_Adapter"} <= names:
        return None
    if "T_Adapter" not in names:
        if "T_Adapter_in" in names:
            return None  # ZeroI2V's
        missing = "it has no T_Adapter, which AIM has in each block"
        return Candidate("aim-b16", refusal=missing if file.asked else EITHER)
    if sizes is None or sizes.problem:
        missing = "the tower, which AIM's files hold, is not in it or not whole"
        problem = missing if sizes is None else sizes.problem
        return Candidate("aim-b16", refusal=problem)
    if scheme.is_clip:
        target, options, notes = sized("aim", sizes)
    else:
        kind = VITS.get((sizes.width, sizes.depth), "base")
        patch = 16 if kind == "base" or sizes.patch not in (8, 16, 32) else sizes.patch
        arch = f"vit_{kind}_patch{patch}_224"
        arch = arch if timm_module().is_model(arch) else f"vit_{kind}_patch16_224"
        target = f"aim-{arch}"
        options, notes = told_sizes(sizes.arguments(arch))
        notes += ("pixels are normalized as for timm's ViTs of ImageNet, by 0.5 and 0.5",)
    if "T_Adapter_in" in names:
        options["time_adapters"] = 2
    time = file.get("time_embed")
    clip = {"size": sizes.size} | ({} if time is None else {"frames": int(time.shape[1])})
    return Candidate(target, options, notes=notes, clip=clip)


def _scheme(*, is_clip: bool) -> FrozenScheme:
    return FrozenScheme(
        LAYOUT,
        _find,
        adapter_renamer(ADAPTERS, is_clip=is_clip),
        r"aim[-@].+",
        PIXELS if is_clip else HALF,
        None,
        plan="aim",
        is_clip=is_clip,
        unsaid=("scale",),
    )


SCHEMES = (_scheme(is_clip=True), _scheme(is_clip=False))
