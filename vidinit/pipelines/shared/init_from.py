"""`--init-from`: the weights of another run, or of one of its checkpoints, in a model at hand."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...checkpoint import CARD, load_trunk, model_folder
from ...console import say
from ...engine import checkpoint_folders as folders
from ...errors import UsageError
from ...zoo.images.hub import is_hub

if TYPE_CHECKING:
    from torch import Tensor

    from ...zoo.base import VideoModel

_TASK = "model."  # what a checkpoint calls the model's own tensors
_HEAD = "head."
_SHOWN = 4  # names in a message


def initial_folder(ref: str) -> Path:
    """Where the weights of ``--init-from`` are: a model folder, or a checkpoint.

    Args:
        ref: a model folder, ``hf-hub:USER/NAME`` as well; a run folder, whose model or else newest
            checkpoint is meant; a checkpoint of a run, ``last`` and ``best`` among them.

    Raises:
        UsageError: for anything else.
    """
    path = Path(ref)
    if is_hub(ref) or any((folder / CARD).is_file() for folder in (path, path / "model")):
        found = model_folder(ref)
        assert found is not None
        return found
    if path.name in ("last", "best") and path.parent.is_dir():
        path = folders.pointed(path.parent, path.name) or path
    elif (path / "checkpoints").is_dir():
        path = folders.newest(path / "checkpoints") or path
    if not path.is_dir():
        raise UsageError(
            f"--init-from {ref} does not exist", "name a model, run or checkpoint folder"
        )
    if not (path / folders.MANIFEST).is_file():
        raise UsageError(
            f"--init-from {ref} holds no weights", "name a model, run or checkpoint folder"
        )
    wrong = folders.damage(path, contents=True)
    if wrong is not None:
        raise UsageError(f"--init-from {ref} is damaged ({wrong})", "name another checkpoint")
    return path


def check_initial(ref: str, model: str) -> None:
    """Refuse ``--init-from`` that cannot be, before anything heavy is imported.

    Raises:
        UsageError: no weights there, or a checkpoint, which does not say what network it is of,
            without a MODEL.
    """
    place = initial_folder(ref)
    if model == ref and not (place / CARD).is_file():
        raise UsageError(
            f"--init-from {ref} is a checkpoint, which holds weights only",
            "name the network, too: MODEL, or a preset",
        )


def initialize(model: VideoModel, ref: str) -> None:
    """Copy the weights that fit, by name and shape, into a model; say what did not.

    A head is taken where it is for the same classes. The weights of a checkpoint are the moving
    averages, where the run kept them. The model goes on with the lineage of where they come from.

    Args:
        model: changed in place.
        ref: see `initial_folder`.

    Raises:
        UsageError: when nothing fits, or what is there cannot be read.
    """
    from ...zoo.adapters.tower_model import TowerModel

    place, reference = initial_folder(ref), None
    if (place / CARD).is_file():
        source = load_trunk(place)
        reference = getattr(source, "reference", None)
        if source.in_channels == 2 and model.in_channels == 3:  # it sees optical flow
            from ...zoo.build import set_input_channels

            set_input_channels(model, 2)
        state: dict[str, Any] = source.state_dict()
        same_head = source.classes is not None and source.classes == model.classes
        lineage = list(source.lineage)
    else:
        state, same_head = _checkpoint_weights(place, model), False
        lineage = [{"step": "checkpoint", "of": str(place)}]
    own, tower = model.state_dict(), _frozen_apart(model, state, ref)
    fits = {
        name
        for name, tensor in own.items()
        if name in state
        and state[name].shape == tensor.shape
        and (same_head or not name.startswith(_HEAD))
    }
    if all(name.startswith(_HEAD) for name in fits):
        raise UsageError(
            f"--init-from {ref}: none of its {len(state)} tensors fits {model.name}",
            "name a run of the same network",
        )
    named = model.reference if isinstance(model, TowerModel) else None
    model.load_state_dict({name: state[name] for name in fits}, strict=False)
    if isinstance(model, TowerModel) and named == reference:  # it is the same tower, still
        model.reference = named
    model.lineage = lineage
    own = {name: tensor for name, tensor in own.items() if name not in tower}
    rest = [name for name in own if name not in fits]
    new = f"; as new: {', '.join(rest[:_SHOWN])}" if rest else ""
    more = f" and {len(rest) - _SHOWN} more" if len(rest) > _SHOWN else ""
    say(f"{ref}: {len(fits)} of the {len(own)} tensors of {model.name}{new}{more}")


def _frozen_apart(model: VideoModel, state: dict[str, Tensor], ref: str) -> set[str]:
    """Names of a model's tensors for which a state has a digest alone, which is taken out of it.

    Where they are others than those that the state was trained with, that is said: a tower for
    frames of another size has other positions, too, so it need not be wrong.
    """
    from ...zoo.adapters.frozen import DIGEST, digest
    from ...zoo.adapters.tower_model import TOWER, TowerModel

    found = state.pop(TOWER + DIGEST, None)
    if found is None or not isinstance(model, TowerModel):
        return set()
    if digest(model.tower.network, model.tower.trained) != bytes(found.tolist()).hex():
        say(
            f"warning: {ref} was trained with another frozen tower than that of {model.name} here, "
            "or with one for frames of another size, and holds only its digest; the run's model "
            "folder as MODEL has the right one"
        )
    return set(model.frozen_state())


def _checkpoint_weights(place: Path, model: VideoModel) -> dict[str, Tensor]:
    """The model's tensors in a checkpoint, averages in place of what they are averages of.

    A parameter that layers of the model share has one name of several in a checkpoint, and here all
    of them.
    """
    from safetensors.torch import load_file

    from ...engine.restoring import read_averages
    from ...zoo.adapters.frozen import DIGEST

    file = place / "model.safetensors"
    if not file.is_file():
        raise UsageError(
            f"{place} holds the shards of several processes", "name the run's model folder"
        )
    saved = load_file(file)
    if DIGEST in saved:
        raise UsageError(
            f"{place} is a checkpoint of probes, and holds nothing of their trunk",
            "name the run's model folder",
        )
    weights, averages = (
        {name[len(_TASK) :]: t for name, t in found.items() if name.startswith(_TASK)}
        for found in (saved, read_averages(place) or {})
    )
    state = {**weights, **averages}
    names_of: dict[int, list[str]] = defaultdict(list)
    for name, tensor in model.state_dict(keep_vars=True).items():
        names_of[id(tensor)].append(name)
    for names in names_of.values():
        there = [name for name in names if name in averages] or [n for n in names if n in state]
        state |= {name: state[there[0]] for name in names if there}
    return state
