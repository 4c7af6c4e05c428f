"""The self-describing model folder: ``model.safetensors`` and ``model.yaml``, nothing beside it.

Architecture, class names, pixel statistics, clip settings and lineage are in the yaml. Folders are
written under a temporary name and renamed, so that a half-written one is never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from .console import say
from .errors import UsageError, VidinitError
from .files import write_folder
from .zoo.encoders.folder import encoder_folder, is_encoder, is_encoder_folder
from .zoo.encoders.kinds import is_encoder_name
from .zoo.images.hub import hub_folder, is_hub
from .zoo.names import find_entry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .data.rows import LabelKind
    from .zoo.base import VideoModel
    from .zoo.card import Card
    from .zoo.detector import Detector
    from .zoo.pair import PairModel
    from .zoo.spec import ClipSpec

WEIGHTS, CARD = "model.safetensors", "model.yaml"
DETECT = "detect."
"""The beginning of the names of a detector's own tensors, beside those of its trunk."""

PROPOSALS = f"{DETECT}proposals."
"""And of those of them that propose boxes."""
MEAN_POOL = "mean_pool.safetensors"
"""A linear head on the mean of a probed trunk's tokens, with which the probe is compared."""


def save_model(
    model: VideoModel | Detector,
    folder: str | Path,
    heads: dict[str, nn.Linear] | None = None,
    statistics: dict[str, dict[str, Tensor]] | None = None,
    mean_pool: nn.Linear | None = None,
    **card: Any,
) -> Path:
    """Write a model folder, without the frozen tower of a DiST model that is had by reference.

    Args:
        model: its name, options, spec, classes, kind of labels and lineage are recorded. A
            detector's trunk is stored as it would be alone, with what reads its maps beside it.
        folder: replaced as a whole if it is there.
        heads: further heads by name: of a trunk trained on several sources, or the nouns'.
        statistics: by source, buffers that its model has in place of the model's own, by name.
        mean_pool: the linear head on the trunk's own descriptor that was trained beside a probe.
        card: further entries of model.yaml, which `zoo.card.Card` has to know (``head_classes``:
            name to class names; ``merged``: by source, the head that it shares and which of its
            outputs are the source's).

    Raises:
        UsageError: for a fused model, whose weights no model could load.
    """
    from .zoo.detector import Detector

    detector = model if isinstance(model, Detector) else None
    model = model.trunk if isinstance(model, Detector) else model
    if model.fused:
        raise UsageError(
            f"a fused model cannot be saved as a model folder: {folder}",
            "save the model that fuse() was called on, and fuse after loading",
        )
    from safetensors.torch import save

    from .version import __version__
    from .zoo.adapters.reference import with_reference
    from .zoo.card import FORMAT

    own, tower = with_reference(model)
    state = {k: v.detach().cpu().contiguous() for k, v in own.items()}
    for name, head in (heads or {}).items():
        state[f"heads.{name}.weight"] = head.weight.detach().cpu().contiguous()
        state[f"heads.{name}.bias"] = head.bias.detach().cpu().contiguous()
    for source, buffers in (statistics or {}).items():
        for key, buffer in buffers.items():
            state[f"statistics.{source}.{key}"] = buffer.detach().cpu().contiguous()
    if detector is not None:
        for key, value in detector.head.state_dict().items():
            state[f"{DETECT}{key}"] = value.detach().cpu().contiguous()
    if detector is not None and detector.proposals is not None:
        for key, value in detector.proposals.state_dict().items():
            state[f"{PROPOSALS}{key}"] = value.detach().cpu().contiguous()
    content = {
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
        **({} if detector is None else {"detect": detector.card().as_dict()}),
        **card,
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    files = {WEIGHTS: save(_apart(state)), CARD: text.encode()}
    if mean_pool is not None:
        files[MEAN_POOL] = save({k: v.detach().cpu() for k, v in mean_pool.state_dict().items()})
    write_folder(Path(folder), files)
    return Path(folder)


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor in memory of its own: blocks that share one (CoaT's) have it under all names."""
    seen: set[int] = set()
    own = {}
    for key, value in state.items():
        own[key] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return own


def model_folder(ref: str | Path) -> Path | None:
    """The model folder meant by a model folder or a run folder; None for a zoo name.

    One on the hub, ``hf-hub:USER/NAME``, is fetched, and the local copy is meant. A folder with a
    video encoder of transformers, and ``hf:USER/NAME``, stands for a model folder, too.

    Raises:
        UsageError: for a path that is no such folder, and for an unknown zoo name.
        VidinitError: when the hub does not give it.
    """
    if is_hub(ref):
        return hub_folder(str(ref))
    if is_encoder(ref):
        return encoder_folder(str(ref))
    path = Path(ref)
    for folder in (path, path / "model"):
        if (folder / CARD).is_file() and (folder / WEIGHTS).is_file():
            return folder
    if is_encoder_folder(path):
        return path
    if path.is_dir():
        inside = sorted(path.glob(f"*/model/{CARD}"))  # of a set of runs
        run = path.absolute().parents[1]
        if path.absolute().parent.name == "checkpoints" and (run / "model" / CARD).is_file():
            raise UsageError(
                f"{path} is a checkpoint, the state of a training, and no model",
                f"name its run, {path.parents[1] if len(path.parts) > 2 else run}; to train on "
                "from this state, finetune MODEL --init-from takes it",
            )
        raise UsageError(
            f"{path} is no model or run folder: it has no {CARD} with {WEIGHTS}",
            f"it holds runs: name one of them, as {inside[0].parents[1]}"
            if inside
            else "a run that was stopped early has no model yet; resume it with --resume",
        )
    if len(path.parts) > 1 or path.suffix in (".yaml", ".safetensors"):
        raise UsageError(f"no such model folder: {path}", "give a zoo name or a folder")
    find_entry(str(ref))
    return None


def read_card(folder: Path) -> Card:
    """The content of model.yaml, checked; of a folder of transformers what stands for it.

    Raises:
        UsageError: when it cannot be understood, naming the file, the keys and what belongs there.
    """
    if is_encoder_folder(folder):
        from .zoo.encoders.opening import read_encoder

        return read_encoder(folder)
    from .zoo.card import read

    return read(folder / CARD)


def label_kind_of(ref: str | Path) -> LabelKind | None:
    """Kind of the labels of a model folder or run folder; None for a zoo name."""
    folder = model_folder(ref)
    return None if folder is None else read_card(folder).kind


def is_detector(ref: str | Path) -> bool:
    """True for a model folder or run folder that holds a detector; False for all else there is."""
    folder = model_folder(ref)
    return folder is not None and read_card(folder).detect is not None


def name_of(ref: str | Path) -> str:
    """The name of the model in a model folder or run folder, or the zoo name itself."""
    folder = model_folder(ref)
    return str(ref) if folder is None else read_card(folder).name


def load(folder: str | Path, *, head: str | None = None) -> VideoModel | Detector:
    """The model in a model folder or run folder, in eval mode.

    Args:
        folder: a model folder, a run folder that holds one, or ``hf-hub:USER/NAME``.
        head: name of one of several heads (co-training; ``verb`` and ``noun`` of pairs); default:
            the model's own, which is the primary source's, or the verbs'.

    Returns:
        A module from normalized clips (B, 3, T, H, W) to logits, with ``.classes`` and
        ``.predict(path, topk=5)``; or a detector, from clips and boxes to the boxes' logits.

    Raises:
        UsageError: when the folder is none, is damaged, or has no such head.
    """
    if head is None and is_detector(folder):
        return load_detector(folder)
    return load_classifier(folder, head=head)


def load_detector(folder: str | Path) -> Detector:
    """The detector in a model folder or run folder, in eval mode.

    Raises:
        UsageError: when the folder is none, is damaged, or holds no detector.
    """
    from .zoo.detector import Detector
    from .zoo.images.networks import load_exactly

    found = model_folder(folder)
    detect = None if found is None else read_card(found).detect
    if found is None or detect is None:
        raise UsageError(
            f"{folder} is no detector: it says nothing of boxes",
            "train one from it: vidinit finetune MODEL --task detect",
        )
    place, card, state = _read(folder)
    trunk = _build(place, card, state)
    classes = detect.num_classes if detect.classes is None else detect.classes
    detector = _made(place, card, lambda: Detector(trunk, classes, detect.settings))
    own = {k.removeprefix(DETECT): v for k, v in state.items() if k.startswith(DETECT)}
    inner = PROPOSALS.removeprefix(DETECT)
    proposing = {k.removeprefix(inner): own.pop(k) for k in list(own) if k.startswith(inner)}
    load_exactly(detector.head, own, str(place))
    if detector.proposals is None and proposing:
        raise UsageError(f"{place} has weights of proposals, and {CARD} names no network of them")
    if detector.proposals is not None:
        load_exactly(detector.proposals, proposing, str(place))
    return detector.eval()


def load_classifier(folder: str | Path, *, head: str | None = None) -> VideoModel:
    """The classifier in a model folder or run folder, in eval mode; see `load`.

    Of a detector that is its trunk with the classifier it came with, which is said.

    Raises:
        UsageError: when the folder is none, is damaged, has no such head, or holds a detector
            whose trunk has no classifier.
    """
    place = model_folder(folder)
    card = None if place is None else read_card(place)
    if card is not None and card.detect is not None and not card.num_classes:
        raise UsageError(
            f"{folder} is a detector: it classifies boxes, and no whole clips",
            "finetune starts a classifier from its trunk",
        )
    return load_trunk(folder, head=head)


def load_trunk(folder: str | Path, *, head: str | None = None) -> VideoModel:
    """The video model in a model folder or run folder, in eval mode, whether it classifies or not.

    Of a detector that is its trunk with the classifier it came with, if any, which is said.

    Raises:
        UsageError: when the folder is none, is damaged, or has no such head.
    """
    found = model_folder(folder)
    if found is not None and is_encoder_folder(found):
        from .zoo.encoders.opening import open_encoder

        if head is not None:
            raise UsageError(f"{folder} has no head '{head}'", "it has one head only")
        return open_encoder(found, str(folder))
    place, card, state = _read(folder)
    if card.detect is not None:
        had = f", with the classifier for {card.num_classes} classes it had before"
        say(f"{place} is a detector: its trunk is taken{had if card.num_classes else ''}")
    heads = card.head_classes or {}
    if head is not None and head not in heads:
        has = f"it has {', '.join(heads)}" if heads else "it has one head only"
        raise UsageError(f"{place} has no head '{head}'", has)
    if head is not None:
        _choose(head, card, state)
    model = _build(place, card, state)
    if head is not None:
        model.classes, model.label_kind = heads[head], "single"
        clip = (card.source_clips or {}).get(head)
        if clip is not None and clip.frames == 1:  # an image, which the model takes as it is
            model._spec = clip
        elif clip is not None:
            _set_clip(place, model, clip)
    return model


def _choose(source: str, card: Card, state: dict[str, Tensor]) -> None:
    """Make one source's head, and its statistics of norms, the model's own; in place."""
    merged = (card.merged or {}).get(source)
    head = merged.head if merged else source
    for key in ("weight", "bias"):
        kept = state.get(f"heads.{head}.{key}", state.get(f"head.{key}"))  # the first: the model's
        if kept is not None:  # else it is said to be missing
            state[f"head.{key}"] = kept[merged.outputs] if merged else kept
    own = f"statistics.{source}."
    buffers = {k.removeprefix(own): v for k, v in state.items() if k.startswith(own)}
    # A source `a.b` has keys that begin as those of `a` do, but name nothing in the model.
    state.update({k: v for k, v in buffers.items() if k in state})


def with_mean_pool(model: VideoModel, folder: str | Path) -> VideoModel | None:
    """A probed trunk with the linear head on its own descriptor that was trained beside the probe.

    Args:
        model: as `load` gives it; the two share the trunk.
        folder: the model folder or run folder it is of.

    Returns:
        None where the folder has no such head.

    Raises:
        UsageError: the head cannot be read, or is of another trunk.
    """
    place = model_folder(folder)
    file = None if place is None else place / MEAN_POOL
    if file is None or not file.is_file():
        return None
    from safetensors.torch import load_file
    from torch import nn

    from .zoo.base import with_head

    try:
        state = load_file(file)
        head = nn.Linear(model.num_features, len(state["weight"]))
        head.load_state_dict(state)
    except Exception as error:  # safetensors raises its own kinds for damaged files
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"cannot read {file} ({reason})", "take a whole copy of it") from error
    return with_head(model, head, pooler=None).eval()


def load_pair(folder: str | Path) -> PairModel:
    """The model in a model folder or run folder with both its heads, in eval mode.

    Raises:
        UsageError: when the folder is none, is damaged, or was not trained on verbs and nouns.
    """
    from torch import nn

    from .zoo.pair import NOUN, PairModel

    place, card, state = _read(folder)
    if card.kind != "pair":
        raise UsageError(f"{place} has no head of nouns", "it was not trained on verbs and nouns")
    model = _build(place, card, state)
    nouns = (card.head_classes or {})[NOUN]
    noun = nn.Linear(model.descriptor_width, len(nouns))
    noun.load_state_dict({key: state[f"heads.{NOUN}.{key}"] for key in ("weight", "bias")})
    return PairModel(model, noun, nouns).eval()


def described(folder: Path) -> VideoModel:
    """The model that model.yaml describes, with random weights.

    Raises:
        UsageError: it cannot be built.
    """
    from .zoo.build import create_model

    card = read_card(folder)

    def make() -> VideoModel:
        return create_model(card.name, num_classes=card.num_classes, **card.options)

    model = _made(folder, card, make)
    _set_clip(folder, model, card.clip)
    return model


def _read(folder: str | Path) -> tuple[Path, Card, dict[str, Tensor]]:
    """The model folder meant by ``folder``, its card, and its tensors, which fit the card."""
    place = model_folder(folder)
    if place is None:
        raise UsageError(f"'{folder}' is a zoo name, not a folder", "vidinit.create_model makes it")
    from safetensors.torch import load_file

    card = read_card(place)
    try:
        state = load_file(place / WEIGHTS)
    except Exception as error:  # safetensors raises its own kinds for damaged files
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"cannot read {place / WEIGHTS}", f"it is damaged ({reason})") from error
    fault = next(_faults(card, state), None)
    if fault:
        raise UsageError(f"{place / WEIGHTS}: {fault}", "take a whole copy of the model folder")
    return place, card, state


def _faults(card: Card, state: dict[str, Tensor]) -> Iterator[str]:
    """Faults of tensors whatever the network: values, and heads without their classes."""
    from .zoo.images.state_dicts import COUNTER

    for key, tensor in state.items():
        floats = key.startswith(("heads.", DETECT)) and not key.endswith(COUNTER)
        if tensor.is_complex() or (floats and not tensor.is_floating_point()):
            yield f"{key} is {_kind_of(tensor)}, it should be floating point"
        elif tensor.is_floating_point() and not _is_finite(tensor):
            yield f"{key} holds NaN or infinite values"
    found = [key for key in state if key.startswith(DETECT)]
    if found and card.detect is None:
        yield f"{found[0]} is a detector's, and {CARD} has no section detect"
    own = next((state[k] for k in ("head.weight", "head.embeddings") if k in state), None)
    outputs = 0 if own is None or own.dim() != 2 else len(own)
    if outputs != card.num_classes:
        yield f"the head has {outputs} outputs, num_classes in {CARD} is {card.num_classes}"
    without, sources = set(), card.head_classes or {}
    for source, names in sources.items():
        merged = (card.merged or {}).get(source)
        head = merged.head if merged else source
        weight, bias = (state.get(f"heads.{head}.{key}") for key in ("weight", "bias"))
        has = outputs
        if weight is None and bias is None:  # the model's own head
            without.add(head)
        elif weight is None or bias is None or weight.dim() != 2 or bias.shape != weight.shape[:1]:
            yield f"heads.{head}.weight and heads.{head}.bias do not belong together"
        else:
            has = len(weight)
            if own is not None and weight.shape[1:] != own.shape[1:]:
                shapes = f"{tuple(weight.shape)}, the model's own head {tuple(own.shape)}"
                yield f"heads.{head}.weight is {shapes}"
        if merged and max(merged.outputs, default=0) >= has:
            yield f"merged.{source}.outputs in {CARD} goes beyond the {has} outputs of {head}"
        if not merged and len(names) != has:
            yield f"{has} outputs of {source}, head_classes in {CARD} has {len(names)} names"
    heads = {card.merged[s].head if card.merged and s in card.merged else s for s in sources}
    for key in state:
        part, _, name = key.partition(".")
        known = heads if part == "heads" else sources if part == "statistics" else None
        if known is not None and not any(name.startswith(f"{one}.") for one in known):
            yield f"{key} belongs to none of head_classes in {CARD}"
    if len(without) > 1:
        yield f"no weights of the heads {', '.join(sorted(without)[1:])} of head_classes in {CARD}"


def _kind_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _is_finite(tensor: Tensor) -> bool:
    """True for values that are all finite; in one pass, and without memory of its size."""
    if tensor.numel() == 0:
        return True
    if tensor.element_size() == 1:  # eight bits are not compared
        tensor = tensor.float()
    return all(bool(end.isfinite()) for end in tensor.aminmax())


T = TypeVar("T")


def _made(place: Path, card: Card, make: Callable[[], T]) -> T:
    """``make()``, whose errors are those of a name and options in model.yaml.

    Raises:
        UsageError: it fails, for whatever reason where there are options: their values are as free
            as the arguments of networks are.
    """
    try:
        return make()
    except UsageError as error:
        where = "" if str(place) in error.message else f"{place / CARD}: "
        raise UsageError(f"{where}{error.message}", error.hint) from error
    except Exception as error:
        if isinstance(error, (VidinitError, MemoryError)) or not card.options:
            raise
        reason = (str(error).strip().splitlines() or [""])[0][:120]
        raise UsageError(
            f"{place / CARD}: options: {card.name} cannot be built with {str(card.options)[:120]} "
            f"({type(error).__name__}: {reason})",
            "they were changed or are of another version",
        ) from error


def _set_clip(place: Path, model: VideoModel, clip: ClipSpec) -> None:
    """Have the model take clips that its model.yaml names."""
    try:
        model.spec = clip
    except (UsageError, ValueError, RuntimeError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:120]
        raise UsageError(
            f"{place / CARD}: clip: {model.name} cannot take clips of "
            f"{clip.frames} x {clip.size} x {clip.size} ({reason})"
        ) from error


def _pooler_blocks(state: Mapping[str, Any]) -> int:
    """How many blocks the list of a pooler in a state dict has."""
    keys = (key.partition(".blocks.") for key in state if key.startswith("pooler."))
    return len({behind.split(".")[0] for _, found, behind in keys if found})


def _build(place: Path, card: Card, state: dict[str, Tensor]) -> VideoModel:
    """The model that a card describes, with the tensors that are its own."""
    from .zoo.adapters.reference import load_own, rebuild
    from .zoo.build import create_model
    from .zoo.dist_network.model import DistModel
    from .zoo.encoders.opening import rebuild_encoder
    from .zoo.images.networks import load_exactly
    from .zoo.poolers import make_pooler

    beside = ("heads.", "statistics.", DETECT)
    own = {k: v for k, v in state.items() if not k.startswith(beside)}
    classes = len(own["head.weight"]) if "head.weight" in own else 0

    def make() -> VideoModel:
        if card.tower is not None and is_encoder_name(card.name):
            return rebuild_encoder(place, card, classes)
        if card.tower is not None:
            return rebuild(place, card, classes)
        return create_model(card.name, num_classes=classes, **card.options)

    model = _made(place, card, make)
    _set_clip(place, model, card.clip)  # first: some parameters go by the clip
    if "head.embeddings" in own:
        if not isinstance(model, DistModel) or card.classes is None:
            raise UsageError(
                f"{place / WEIGHTS}: head.embeddings stand for the class names of a DiST, "
                f"{CARD} has {'no names' if card.classes is None else f'name: {card.name}'}"
            )
        model.set_text(own["head.embeddings"], card.classes)
    if card.pooler is not None:
        form = card.pooler
        # Of V-JEPA 2's form the last block stands by itself.
        found = _pooler_blocks(own) + (form.form == "vjepa2")
        if form.blocks is not None and found != form.blocks:
            raise UsageError(
                f"{place / CARD}: pooler.blocks: {form.blocks}, but {WEIGHTS} has {found}"
            )
        width, settings = model.num_features, form.as_settings()
        model.set_pooler(_made(place, card, lambda: make_pooler(width, **settings)))
    for key, want in model.state_dict().items():
        if key in own and own[key].is_floating_point() != want.is_floating_point():
            kind = "floating point" if want.is_floating_point() else "whole numbers"
            raise UsageError(f"{place / WEIGHTS}: {key} is {_kind_of(own[key])}, not {kind}")
    if card.tower is not None:
        load_own(model, own, str(place))
    else:
        load_exactly(model, own, str(place))
    model.classes = card.classes
    model.label_kind = card.kind
    model.still = card.still
    model.lineage = list(card.lineage)
    return model.eval()
