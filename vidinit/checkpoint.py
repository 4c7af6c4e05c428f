"""The self-describing model folder: ``model.safetensors`` and ``model.yaml``, nothing beside it.

Architecture, class names, pixel statistics, clip settings and lineage are in the yaml. Folders are
written under a temporary name and renamed, so that a half-written one is never seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .errors import UsageError
from .files import write_folder
from .zoo.images.hub import hub_folder, is_hub
from .zoo.names import find_entry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .data.rows import LabelKind
    from .zoo.base import VideoModel
    from .zoo.pair import PairModel

WEIGHTS, CARD = "model.safetensors", "model.yaml"

FORMAT = 1


def save_model(
    model: VideoModel,
    folder: str | Path,
    heads: dict[str, nn.Linear] | None = None,
    statistics: dict[str, dict[str, Tensor]] | None = None,
    **card: Any,
) -> Path:
    """Write a model folder, without the frozen tower of a DiST model that is had by reference.

    Args:
        model: its name, options, spec, classes, kind of labels and lineage are recorded.
        folder: replaced as a whole if it is there.
        heads: further heads by name: of a trunk trained on several sources, or the nouns'.
        statistics: by source, buffers that its model has in place of the model's own, by name.
        card: further entries of model.yaml (``head_classes``: name to class names; ``merged``: by
            source, the head that it shares and which of its outputs are the source's).

    Raises:
        UsageError: for a fused model, whose weights no model could load.
    """
    if model.fused:
        raise UsageError(
            f"a fused model cannot be saved as a model folder: {folder}",
            "save the model that fuse() was called on, and fuse after loading",
        )
    from safetensors.torch import save

    from .version import __version__
    from .zoo.dist_network.reference import with_reference

    own, tower = with_reference(model)
    state = {k: v.detach().cpu().contiguous() for k, v in own.items()}
    for name, head in (heads or {}).items():
        state[f"heads.{name}.weight"] = head.weight.detach().cpu().contiguous()
        state[f"heads.{name}.bias"] = head.bias.detach().cpu().contiguous()
    for source, buffers in (statistics or {}).items():
        for key, buffer in buffers.items():
            state[f"statistics.{source}.{key}"] = buffer.detach().cpu().contiguous()
    described = {
        "format": FORMAT,
        "vidinit": __version__,
        "name": model.name,
        "options": model.options,
        "num_classes": model.num_classes,
        "clip": model.spec.as_dict(),
        "classes": model.classes,
        "kind": model.label_kind,
        "still": model.still,
        **({} if model.pooler is None else {"pooler": model.pooler.settings()}),
        "lineage": model.lineage,
        **tower,
        **card,
    }
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    write_folder(Path(folder), {WEIGHTS: save(state), CARD: text.encode()})
    return Path(folder)


def model_folder(ref: str | Path) -> Path | None:
    """The model folder meant by a model folder or a run folder; None for a zoo name.

    One on the hub, ``hf-hub:USER/NAME``, is fetched, and the local copy is meant.

    Raises:
        UsageError: for a path that is no such folder, and for an unknown zoo name.
        VidinitError: when the hub does not give it.
    """
    if is_hub(ref):
        return hub_folder(str(ref))
    path = Path(ref)
    for folder in (path, path / "model"):
        if (folder / CARD).is_file() and (folder / WEIGHTS).is_file():
            return folder
    if path.is_dir():
        raise UsageError(
            f"{path} is no model or run folder: it has no {CARD} with {WEIGHTS}",
            "a run that was stopped early has no model yet; resume it with --resume",
        )
    if len(path.parts) > 1 or path.suffix in (".yaml", ".safetensors"):
        raise UsageError(f"no such model folder: {path}", "give a zoo name or a folder")
    find_entry(str(ref))
    return None


def read_card(folder: Path) -> dict[str, Any]:
    """model.yaml as a dict.

    Raises:
        UsageError: when it cannot be understood.
    """
    try:
        card = yaml.safe_load((folder / CARD).read_text(encoding="utf-8"))
        if not isinstance(card, dict) or card["format"] != FORMAT:
            raise ValueError(f"format {card.get('format') if isinstance(card, dict) else card!r}")
        return card
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"cannot read {folder / CARD}", f"it is damaged or newer ({reason})"
        ) from error


def label_kind_of(ref: str | Path) -> LabelKind | None:
    """Kind of the labels of a model folder or run folder; None for a zoo name."""
    folder = model_folder(ref)
    return None if folder is None else _kind(read_card(folder))


def name_of(ref: str | Path) -> str:
    """The name of the model in a model folder or run folder, or the zoo name itself."""
    folder = model_folder(ref)
    return str(ref) if folder is None else str(read_card(folder)["name"])


def _kind(card: dict[str, Any]) -> LabelKind:
    return card.get("kind", "single")  # older folders have no other


def load(folder: str | Path, *, head: str | None = None) -> VideoModel:
    """The model in a model folder or run folder, in eval mode.

    Args:
        folder: a model folder, a run folder that holds one, or ``hf-hub:USER/NAME``.
        head: name of one of several heads (co-training; ``verb`` and ``noun`` of pairs); default:
            the model's own, which is the primary source's, or the verbs'.

    Returns:
        A module from normalized clips (B, 3, T, H, W) to logits, with ``.classes`` and
        ``.predict(path, topk=5)``.

    Raises:
        UsageError: when the folder is none, is damaged, or has no such head.
    """
    place, card, state = _read(folder)
    heads: dict[str, list[str]] = card.get("head_classes") or {}
    if head is not None and head not in heads:
        has = f"it has {', '.join(heads)}" if heads else "it has one head only"
        raise UsageError(f"{place} has no head '{head}'", has)
    if head is not None:
        _choose(head, card, state)
    model = _build(place, card, state)
    if head is not None:
        model.classes, model.label_kind = heads[head], "single"
        if head in card.get("source_clips", {}):
            from .zoo.spec import ClipSpec

            clip = ClipSpec.from_dict(card["source_clips"][head])
            if clip.frames == 1:  # an image, which the model takes as it is
                model._spec = clip
            else:
                model.spec = clip
    return model


def _choose(source: str, card: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Make one source's head, and its statistics of norms, the model's own; in place."""
    merged = card.get("merged", {}).get(source)
    head = merged["head"] if merged else source
    for key in ("weight", "bias"):
        kept = state.get(f"heads.{head}.{key}", state[f"head.{key}"])  # the first is the model's
        state[f"head.{key}"] = kept[merged["outputs"]] if merged else kept
    own = f"statistics.{source}."
    buffers = {k.removeprefix(own): v for k, v in state.items() if k.startswith(own)}
    # A source `a.b` has keys that begin as those of `a` do, but name nothing in the model.
    state.update({k: v for k, v in buffers.items() if k in state})


def load_pair(folder: str | Path) -> PairModel:
    """The model in a model folder or run folder with both its heads, in eval mode.

    Raises:
        UsageError: when the folder is none, is damaged, or was not trained on verbs and nouns.
    """
    from torch import nn

    from .zoo.pair import NOUN, PairModel

    place, card, state = _read(folder)
    if _kind(card) != "pair":
        raise UsageError(f"{place} has no head of nouns", "it was not trained on verbs and nouns")
    model = _build(place, card, state)
    nouns: list[str] = card["head_classes"][NOUN]
    noun = nn.Linear(model.num_features, len(nouns))
    noun.load_state_dict({key: state[f"heads.{NOUN}.{key}"] for key in ("weight", "bias")})
    return PairModel(model, noun, nouns).eval()


def _read(folder: str | Path) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """The model folder meant by ``folder``, its card, and its tensors."""
    place = model_folder(folder)
    if place is None:
        raise UsageError(f"'{folder}' is a zoo name, not a folder", "vidinit.create_model makes it")
    from safetensors.torch import load_file

    card = read_card(place)
    try:
        return place, card, load_file(place / WEIGHTS)
    except Exception as error:  # safetensors raises its own kinds for damaged files
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"cannot read {place / WEIGHTS}", f"it is damaged ({reason})") from error


def _build(place: Path, card: dict[str, Any], state: dict[str, Tensor]) -> VideoModel:
    """The model that a card describes, with the tensors that are its own."""
    from .zoo.attentive import AttentivePooler
    from .zoo.build import create_model
    from .zoo.dist_network.model import DistModel
    from .zoo.dist_network.reference import load_side, rebuild
    from .zoo.images.networks import load_exactly
    from .zoo.spec import ClipSpec

    own = {k: v for k, v in state.items() if not k.startswith(("heads.", "statistics."))}
    classes = len(own["head.weight"]) if "head.weight" in own else 0
    if "tower" in card:
        model: VideoModel = rebuild(place, card, classes)
    else:
        model = create_model(card["name"], num_classes=classes, **card["options"])
    model.spec = ClipSpec.from_dict(card["clip"])  # first: some parameters go by the clip
    if "head.embeddings" in own:
        assert isinstance(model, DistModel)
        model.set_text(own["head.embeddings"], card["classes"])
    if "pooler" in card:
        model.pooler = AttentivePooler(model.num_features, **card["pooler"])
    if "tower" in card:
        load_side(model, own, str(place))
    else:
        load_exactly(model, own, str(place))
    model.classes = card["classes"]
    model.label_kind = _kind(card)
    model.still = card.get("still", "center")  # older folders know no other
    model.lineage = list(card["lineage"])
    return model.eval()
