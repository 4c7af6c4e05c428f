"""Which text tower belongs to an image tower: timm's names to open_clip's, as plain data."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError, suggest
from ..extras import install_extra

_METACLIP = {"metaclip_400m": "metaclip_400m", "metaclip_2pt5b": "metaclip_fullcc"}
_LAION400M = {"laion400m_e32": "laion400m_e32"}
_WEBLI = {"webli": "webli"}

TOWERS: dict[str, tuple[str, dict[str, str]]] = {
    # timm's architecture: (open_clip's, {timm's tag: open_clip's})
    "vit_base_patch32_clip_224": (
        "ViT-B-32",
        {
            "openai": "openai",
            "laion2b": "laion2b_s34b_b79k",
            "datacompxl": "datacomp_xl_s13b_b90k",
            **_METACLIP,
            **_LAION400M,
        },
    ),
    "vit_base_patch32_clip_256": ("ViT-B-32-256", {"datacompxl": "datacomp_s34b_b86k"}),
    "vit_base_patch16_clip_224": (
        "ViT-B-16",
        {
            "openai": "openai",
            "laion2b": "laion2b_s34b_b88k",
            "datacompxl": "datacomp_xl_s13b_b90k",
            "dfn2b": "dfn2b",
            **_METACLIP,
            **_LAION400M,
        },
    ),
    "vit_base_patch16_plus_clip_240": ("ViT-B-16-plus-240", _LAION400M),
    "vit_large_patch14_clip_224": (
        "ViT-L-14",
        {
            "openai": "openai",
            "laion2b": "laion2b_s32b_b82k",
            "datacompxl": "datacomp_xl_s13b_b90k",
            "dfn2b": "dfn2b",
            "dfn2b_s39b": "dfn2b_s39b",
            **_METACLIP,
            **_LAION400M,
        },
    ),
    "vit_large_patch14_clip_336": ("ViT-L-14-336", {"openai": "openai"}),
    "vit_huge_patch14_clip_224": (
        "ViT-H-14",
        {"laion2b": "laion2b_s32b_b79k", "metaclip_2pt5b": "metaclip_fullcc", "dfn5b": "dfn5b"},
    ),
    "vit_huge_patch14_clip_378": ("ViT-H-14-378", {"dfn5b": "dfn5b"}),
    "eva02_base_patch16_clip_224": ("EVA02-B-16", {"merged2b": "merged2b_s8b_b131k"}),
    "eva02_large_patch14_clip_224": ("EVA02-L-14", {"merged2b": "merged2b_s4b_b131k"}),
    "eva02_large_patch14_clip_336": ("EVA02-L-14-336", {"merged2b": "merged2b_s6b_b61k"}),
    "vit_pe_core_tiny_patch16_384": ("PE-Core-T-16-384", {"fb": "meta"}),
    "vit_pe_core_small_patch16_384": ("PE-Core-S-16-384", {"fb": "meta"}),
    "vit_pe_core_base_patch16_224": ("PE-Core-B-16", {"fb": "meta"}),
    "vit_pe_core_large_patch14_336": ("PE-Core-L-14-336", {"fb": "meta"}),
    "vit_base_patch16_siglip_224": ("ViT-B-16-SigLIP", _WEBLI),
    "vit_base_patch16_siglip_256": ("ViT-B-16-SigLIP-256", _WEBLI),
    "vit_base_patch16_siglip_384": ("ViT-B-16-SigLIP-384", _WEBLI),
    "vit_large_patch16_siglip_256": ("ViT-L-16-SigLIP-256", _WEBLI),
    "vit_large_patch16_siglip_384": ("ViT-L-16-SigLIP-384", _WEBLI),
    "vit_so400m_patch14_siglip_224": ("ViT-SO400M-14-SigLIP", _WEBLI),
    "vit_so400m_patch14_siglip_384": ("ViT-SO400M-14-SigLIP-384", _WEBLI),
}
QUICK = ("openai", "metaclip_400m", "metaclip_fullcc", "dfn2b", "dfn5b")
"""open_clip's tags of weights that were trained with QuickGELU, in both towers."""
_QUICK_TOO = (("ViT-B-32", "laion400m_e32"),)
_SUFFIX = "-quickgelu"
_NO_TWIN = ("vit_base_patch16_clip_224.dfn2b",)  # timm has no such weights under a quickgelu name


@dataclass(frozen=True)
class TextTower:
    """A text tower as open_clip names it.

    Attributes:
        model: open_clip's name of the architecture.
        tag: open_clip's name of its weights; None where they are in a file.
        file: local weights of both towers, as open_clip saves them; None for a tag.
    """

    model: str
    tag: str | None = None
    file: Path | None = None

    def __str__(self) -> str:
        """As `find_tower` reads it."""
        return f"{self.model}/{self.tag}" if self.file is None else f"{self.model}={self.file}"


def tower_of(image_tower: str) -> TextTower | None:
    """The text tower that was trained with an image tower.

    Args:
        image_tower: timm name with its tag, ``vit_base_patch16_clip_224.openai``. The
            ``quickgelu`` names of timm mean the same weights. The weights say which activation
            the text tower wants, so both give ``ViT-B-16-quickgelu/openai``.

    Returns:
        None where none is known.
    """
    arch, _, timm_tag = image_tower.partition(".")
    model, tags = TOWERS.get(arch.replace("_quickgelu", ""), ("", {}))
    if timm_tag not in tags:
        return None
    tag = tags[timm_tag]
    quick = tag in QUICK or (model, tag) in _QUICK_TOO
    return TextTower(model + _SUFFIX if quick else model, tag)


def is_image_tower(ref: str) -> bool:
    """True for timm's name of a tower with a linear projection into the space of image and text.

    SigLIP's towers have none: what pools their tokens makes the embedding.
    """
    return tower_of(ref) is not None and "siglip" not in ref


def quick_name(image_tower: str) -> str:
    """The timm name of an image tower that has the activation its weights were trained with.

    ``vit_base_patch16_clip_224.openai`` computes with GELU what was trained with QuickGELU.
    """
    tower, (arch, _, tag) = tower_of(image_tower), image_tower.partition(".")
    if tower is None or not tower.model.endswith(_SUFFIX):
        return image_tower
    if "_quickgelu" in arch or image_tower in _NO_TWIN:
        return image_tower
    return f"{arch.replace('_clip_', '_clip_quickgelu_')}.{tag}"


def activation_note(source: str) -> str:
    """A note on a tower whose weights were trained with another activation; empty for others.

    timm has some of OpenAI's towers twice, with GELU and with the QuickGELU they were trained with.
    """
    right = quick_name(source)
    if right == source:
        return ""
    other = "computes with another activation than its weights were trained with"
    return f"{source} {other}: {right} is right"


def find_tower(name: str) -> TextTower:
    """The text tower behind a name.

    Args:
        name: timm's name of the image tower with its tag; ``MODEL/TAG`` in open_clip's words; or
            ``MODEL=FILE`` for local weights of open_clip's MODEL.

    Raises:
        UsageError: for another form, a file that is not there, or a timm name of no such tower.
    """
    model, equals, path = name.partition("=")
    if equals:
        file = Path(path).expanduser()
        if not model or not file.is_file():
            raise UsageError(f"no such weights file of a text tower: {path}", "check the path")
        return TextTower(model, file=file)
    model, slash, tag = name.partition("/")
    if slash and model and tag:
        return TextTower(model, tag)
    found = tower_of(name)
    if found is not None:
        return found
    arch = name.partition(".")[0].replace("_quickgelu", "")
    if arch in TOWERS:
        tags = ", ".join(TOWERS[arch][1])
        raise UsageError(f"'{name}' does not say whose weights", f"write {arch}.TAG, one of {tags}")
    raise UsageError(
        f"no text tower is known for '{name}'",
        suggest(arch, TOWERS)
        or "write MODEL/TAG in open_clip's words, as ViT-B-16-quickgelu/openai",
    )


def require_open_clip() -> None:
    """Raise UsageError unless open_clip is installed; it is located, not imported."""
    if importlib.util.find_spec("open_clip") is None:
        raise UsageError(
            "text towers need open_clip, which is not installed",
            f"{install_extra('clip')}, or pass a file of text embeddings",
        )
