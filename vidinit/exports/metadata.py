"""Metadata in an exported file: all that a program has to know of the model.

One JSON object under the name ``vidinit``: in the metadata properties of an ONNX file, among the
extra files of a program of `torch.export` (as ``vidinit.json``), in the metadata of safetensors.

==================  =============================================================================
``format``          1
``vidinit``         version that wrote it
``model``           zoo name or ``<plan>-<timm name>``
``options``         of the model, as `vidinit.create_model` takes them
``pooler``          settings of an attentive pooler; only where there is one
``num_classes``     outputs of the head; 0: clips are embedded
``kind``            ``single`` (softmax), ``multi`` (sigmoid) or ``pair`` (two softmaxes)
``classes``         names of the outputs or null; of a pair by head
``input``           ``name``, ``shape`` (batch, channels, T, H, W; any batch) and ``layout``
``outputs``         names
``clip``            preprocessing: ``frames``, ``stride`` (video frames from one to the next),
                    ``size`` (pixels), ``mean`` and ``std`` (of channels in 0 to 1),
                    ``interpolation``, ``crop_pct`` (crop over short side), ``sampling``, ``short``;
                    only where they are set ``steps``, ``fps`` and ``channels`` (``bgr``)
``fused``           true where batch norms are folded into the kernels
``layout``          whose keys the tensors have; only of weights for another code base
==================  =============================================================================
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .formats import require_onnx

if TYPE_CHECKING:
    from ..zoo.base import VideoModel
    from ..zoo.pair import PairModel

KEY = "vidinit"
EXTRA_FILE = f"{KEY}.json"
FORMAT = 1
INPUT = "clip"


def output_names(model: VideoModel | PairModel) -> list[str]:
    """Names of the outputs of a model, in their order."""
    from ..zoo.pair import NOUN, VERB, PairModel

    if isinstance(model, PairModel):
        return [VERB, NOUN]
    return ["logits" if model.num_classes else "embedding"]


def describe(model: VideoModel | PairModel) -> dict[str, Any]:
    """The metadata of a model; see the table of this module."""
    from ..version import __version__
    from ..zoo.pair import NOUN, VERB, PairModel

    pair = isinstance(model, PairModel)
    trunk = model.model if isinstance(model, PairModel) else model
    classes: Any = trunk.classes
    if isinstance(model, PairModel):
        classes = {VERB: trunk.classes, NOUN: model.nouns}
    spec = trunk.spec
    shape = ["batch", trunk.in_channels, spec.frames, spec.size, spec.size]
    return {
        "format": FORMAT,
        "vidinit": __version__,
        "model": trunk.name,
        "options": trunk.options,
        **({} if trunk.pooler is None else {"pooler": trunk.pooler.settings()}),
        "num_classes": trunk.num_classes,
        "kind": "pair" if pair else trunk.label_kind,
        "classes": classes,
        "input": {"name": INPUT, "shape": shape, "layout": "BCTHW"},
        "outputs": output_names(model),
        "clip": spec.as_dict(),
        "fused": trunk.fused,
    }


def as_text(metadata: dict[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(metadata, ensure_ascii=False)


def export_metadata(file: str | Path) -> dict[str, Any]:
    """The metadata of a file that `vidinit.export` wrote: preprocessing, classes, model.yaml.

    Args:
        file: .onnx, .pt2 or .safetensors. The weights are not read.

    Returns:
        ``model``, ``clip``, ``classes``, ``kind``, ``input``, ``outputs`` and more; the table is in
        `vidinit.exports.metadata`.

    Raises:
        UsageError: no such file, or one that vidinit did not write.
    """
    path = Path(file)
    readers = {".onnx": _of_onnx, ".pt2": _of_program, ".safetensors": _of_tensors}
    if path.suffix not in readers:
        raise UsageError(f"{path} is no exported model", f"give a file {', '.join(readers)}")
    if not path.is_file():
        raise UsageError(f"no such file: {path}", "check the path")
    try:
        text = readers[path.suffix](path)
        found = json.loads(text) if text else None
    except UsageError:
        raise
    except Exception as error:  # each reader raises kinds of its own for damaged files
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"cannot read {path}", f"it is damaged ({reason})") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} has no metadata of vidinit", "`vidinit export` writes it")
    return found


def _of_onnx(path: Path) -> str | None:
    require_onnx(["onnx"])
    import onnx

    properties = onnx.load(path, load_external_data=False).metadata_props
    return next((entry.value for entry in properties if entry.key == KEY), None)


def _of_program(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:  # torch reads the weights with it, too
        name = next((n for n in archive.namelist() if n.endswith(f"/{EXTRA_FILE}")), None)
        return None if name is None else archive.read(name).decode()


def _of_tensors(path: Path) -> str | None:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return (file.metadata() or {}).get(KEY)
