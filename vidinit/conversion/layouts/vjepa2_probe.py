"""V-JEPA 2's attentive probe: a file with a pooler and a classifier, and no trunk.

Its own files hold a list ``classifiers``, each with ``module.pooler.*``, which are our names, and
``module.linear.*``; transformers has ``pooler.*`` with other names, and ``classifier.*``. Neither
says how many heads of attention there are, nor the eps of norms. Since the trunk is another file, a
probe is no `Scheme`: it is put on a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from ...errors import UsageError
from ...zoo.base import VideoModel, with_head
from ...zoo.encoders.probe_names import from_transformers, theirs_of, to_transformers
from ...zoo.images.state_dicts import Part, WeightsFile, check_numbers, told
from ...zoo.poolers import EPS, VJEPA2Pooler

SCHEMES = ()

OWN, TRANSFORMERS = "vjepa2-probe", "vjepa2-probe-transformers"
LAYOUTS = (OWN, TRANSFORMERS)
LIST = "classifiers"
"""Where its own files have their probes, trained side by side."""

PUBLISHED_HEADS = 16
_EPS = {OWN: EPS, TRANSFORMERS: 1e-6}
_LINEAR = {OWN: "linear", TRANSFORMERS: "classifier"}
_MODULE, _POOLER = "module.", "pooler."


@dataclass(frozen=True)
class ProbeFile:
    """A probe under our names.

    Attributes:
        layout: one of `LAYOUTS`.
        origin: the file.
        part: which of the file's state dicts it is.
        pooler: tensors of a `VJEPA2Pooler`.
        head: ``weight`` (classes, C) and ``bias`` of the classifier.
        others: names of tensors beside them, as the file has them.
        notes: where in the file it was, one sentence each.
    """

    layout: str
    origin: str
    part: Part
    pooler: dict[str, Tensor] = field(repr=False)
    head: dict[str, Tensor] = field(repr=False)
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_probe(file: WeightsFile, layout: str | None = None) -> ProbeFile:
    """The probe in a file, the first where there are several.

    Args:
        file: the file; its ``key`` says which of several probes is meant.
        layout: the one that is looked for; None for both.

    Raises:
        UsageError: there is none, or it is not whole.
    """
    for part in file.candidates():
        for name in LAYOUTS:
            if layout in (None, name) and (found := _read(file, part, name)) is not None:
                return found
    raise UsageError(
        f"{file.origin} holds no attentive probe of V-JEPA 2",
        "it has pooler.query_tokens, and linear.weight or classifier.weight; other files become "
        "video models by --to PLAN",
    )


def _read(file: WeightsFile, part: Part, layout: str) -> ProbeFile | None:
    linear = f"{_LINEAR[layout]}."
    inner = {
        key.removeprefix(_POOLER): value
        for key, value in part.state.items()
        if key.startswith(_POOLER)
    }
    head = {
        key.removeprefix(linear): value
        for key, value in part.state.items()
        if key.startswith(linear)
    }
    if "query_tokens" not in inner or set(head) != {"weight", "bias"}:
        return None
    others = [key for key in part.state if not key.startswith((_POOLER, linear))]
    if layout == TRANSFORMERS:
        try:
            pooler = from_transformers(inner)
        except KeyError as error:
            raise UsageError(
                f"{file.origin} lacks {_POOLER}{error.args[0]}", "take a whole copy of the file"
            ) from error
        used = {name for key in pooler for name in theirs_of(key)}
        others += [f"{_POOLER}{key}" for key in inner if key not in used]
    else:
        pooler = inner
    notes = list(file.said(part))
    count = sum(key.partition(".")[0] == LIST for key in file.dicts)
    if count > 1:
        notes.append(f"the file has {count} probes: --weights-key {LIST}.N takes another one")
    if others:
        notes.append(f"left out: {told(others)}")
    return ProbeFile(layout, file.origin, part, pooler, head, tuple(others), tuple(notes))


def on_trunk(
    probe: ProbeFile, model: VideoModel, heads: int | None = None
) -> tuple[VideoModel, list[str]]:
    """The model with a probe in place of its pooling and head; the two share the trunk.

    Args:
        probe: read from a file.
        model: whose tokens it reads.
        heads: of the attention; default: V-JEPA 2's 16, of transformers' layout the encoder's own.

    Returns:
        The model, and what had to be assumed, one sentence each.

    Raises:
        UsageError: tokens of another width, or tensors that do not fit together.
    """
    width = int(probe.pooler["query_tokens"].shape[-1])
    if width != model.num_features:
        raise UsageError(
            f"{probe.origin} reads tokens of {width} channels, those of {model.name} have "
            f"{model.num_features}",
            "name the encoder that the probe was trained on",
        )
    eps, notes = _EPS[probe.layout], []
    if heads is None:
        config = model.options.get("config", {})
        own = config.get("num_attention_heads") if probe.layout == TRANSFORMERS else None
        heads = int(own or PUBLISHED_HEADS)
        whose = "those of its encoder" if own else "as published"
        notes.append(
            f"the file does not say how many heads of attention there are: {heads}, {whose}; "
            "--option heads=N sets another number"
        )
    notes.append(f"the file does not say the eps of norms: {eps:g}, as in its code")
    depth = len({key.split(".")[1] for key in probe.pooler if key.startswith("blocks.")})
    pooler = VJEPA2Pooler(width, blocks=depth + 1, heads=heads, eps=eps)
    head = nn.Linear(width, len(probe.head["weight"]))
    for module, state, place in ((pooler, probe.pooler, _POOLER), (head, probe.head, "head.")):
        own_state = module.state_dict()
        wrong = sorted(set(own_state) ^ set(state))
        wrong += [k for k, v in own_state.items() if k in state and v.shape != state[k].shape]
        if wrong:
            missing = wrong[0] in own_state
            raise UsageError(
                f"{probe.origin}: {place}{wrong[0]} {'does not fit' if missing else 'is unknown'}",
                "it is no whole probe of V-JEPA 2's form",
            )
        check_numbers(state, own_state, probe.origin)
        module.load_state_dict(state)
    twin = with_head(model, head, pooler=pooler)
    twin.classes, twin.label_kind = None, "single"
    return twin.eval(), notes


def write_probe(model: VideoModel, layout: str) -> dict[str, Tensor]:
    """The pooler and head of a model by the names of a layout.

    Raises:
        UsageError: it has no attentive probe of V-JEPA 2's form, or one with a time code.
    """
    reason = _refusal(model)
    if reason:
        raise UsageError(
            f"the layout {layout} cannot hold this {model.name}: {reason}",
            "it holds a probe trained by finetune --probe attentive:time=none",
        )
    assert isinstance(model.pooler, VJEPA2Pooler)
    pooler, head = model.pooler.state_dict(), model.head.state_dict()
    if layout == TRANSFORMERS:
        pooler = to_transformers(pooler)
    before = _MODULE if layout == OWN else ""
    named = {f"{before}{_POOLER}{key}": value for key, value in pooler.items()}
    return named | {f"{before}{_LINEAR[layout]}.{key}": value for key, value in head.items()}


def _refusal(model: VideoModel) -> str:
    if not isinstance(model.pooler, VJEPA2Pooler):
        return "its head does not read the tokens by an attentive pooler of V-JEPA 2's form"
    if model.pooler.time.kind != "none":
        return f"its pooler has a time code ({model.pooler.time.kind}), which is unknown there"
    if not isinstance(model.head, nn.Linear):
        return "it has no linear head"
    return ""


def said_of_writing(model: VideoModel, layout: str) -> list[str]:
    """Sentences for people on all of a model that a file of the layout does not hold."""
    assert isinstance(model.pooler, VJEPA2Pooler)
    heads, eps = model.pooler.heads, model.pooler.eps
    notes = [f"the file holds the probe alone, and has no place for its {heads} heads of attention"]
    if eps != _EPS[layout]:
        notes.append(f"norms have an eps of {eps:g} here and of {_EPS[layout]:g} there")
    return notes
