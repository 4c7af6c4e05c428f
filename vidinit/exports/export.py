"""`vidinit export`: a model for other programs, checked, and for others to have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint import (
    is_detector,
    label_kind_of,
    load_classifier,
    load_detector,
    load_pair,
    model_folder,
    read_card,
)
from ..console import say
from ..errors import UsageError, VidinitError
from ..files import check_writable, written
from ..zoo.encoders.folder import is_encoder_folder
from ..zoo.encoders.kinds import is_encoder_name
from ..zoo.images.hub import repo_name
from ..zoo.names import check_option
from .formats import FORMATS, GRAPHS, format_of, require_onnx

if TYPE_CHECKING:
    from ..zoo.base import VideoModel
    from ..zoo.pair import PairModel

BATCHES = (1, 3)
"""Batch sizes that a graph is run with."""


def export(
    model: str | Path,
    *,
    out: str | Path | None = None,
    format: str | None = None,
    layout: str | None = None,
    head: str | None = None,
    fuse: bool = False,
    batch_check: Sequence[int] | None = None,
    tolerance: float = 1e-4,
    push_to_hub: str | None = None,
    public: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a model as a graph or as weights, or put its folder on the hub.

    Graphs take normalized clips (batch, 3, T, H, W) float32 of any batch size and of the frames and
    size the model has, and return logits (batch, classes); a model of verbs and nouns returns both.
    They are traced on the CPU, run from the file, by ONNX Runtime or torch, and compared with the
    model. Preprocessing and classes are in the file: `vidinit.export_metadata` reads them.

    Args:
        model: a model or run folder, or ``hf-hub:USER/NAME``; for a graph a zoo name will do, whose
            weights are random.
        out: file to write: .onnx, .pt2 (torch.export) or .safetensors; with a layout .pth, .pt or
            .pyth, too. Default, with a format: runs/export-<model>-<n>.
        format: ``onnx``, ``torch`` or ``safetensors``; default: by the suffix of ``out``.
        layout: whose keys and shapes weights have (``torchvision``, ``pytorchvideo``, ...);
            default: the model's own.
        head: which head of a co-trained model, or ``verb`` or ``noun``.
        fuse: fold batch norms into the kernels of a graph.
        batch_check: batch sizes that a graph is run with; default 1 and 3.
        tolerance: largest difference of an output from the model's; of outputs above 1 their share.
        push_to_hub: ``USER/NAME``, to which the model folder goes with a card, and ``out`` with it.
        public: make a new repository public; an existing one keeps its visibility.
        overwrite: replace the file.

    Returns:
        {model, format, out} of a file, of weights with {layout, tensors}, of a graph with {batches,
        max_difference, scale, tolerance, fused}; and {hub, private, files} of a repository.

    Raises:
        UsageError: an unknown name, things that do not go together, a file that may not be written.
        VidinitError: a model that cannot be exported, a file that differs from it, and a hub that
            does not take it.
    """
    batches = BATCHES if batch_check is None else batch_check
    form, path = None, None if out is None else Path(out)
    if path is None and format is not None:
        check_option("format", format, list(FORMATS))
        path = default_file(str(model), FORMATS[format])
    if path is not None:
        form = format_of(path, format, layout)
        _check_file(path, overwrite)
    elif layout or head or fuse:
        raise UsageError("--layout, --head and --fuse are for a file", "pass --out FILE with them")
    elif push_to_hub is None:
        raise UsageError("nothing to export to", "pass --out FILE, or --push-to-hub USER/NAME")
    _check_graph(form, fuse, batches, tolerance)
    if push_to_hub is not None:
        repo_name(push_to_hub)
    elif public:
        raise UsageError("--public is for a repository", "pass --push-to-hub USER/NAME with it")
    if layout is not None:
        from ..conversion.sources import check_layout

        check_layout(layout)
    folder = model_folder(model)
    if folder is not None and is_encoder_name(read_card(folder).name):
        _check_encoder(model, folder, path, layout)
    if folder is None and (form not in GRAPHS or push_to_hub or head):
        raise UsageError(f"'{model}' is a zoo name without weights", "give a model or run folder")
    result: dict[str, Any] = {}
    if path is not None and form in GRAPHS and is_detector(model):
        raise UsageError(
            f"{model} is a detector, of which no graph is made: it takes boxes beside the clip",
            "its weights go into .safetensors or a public layout; its trunk is a classifier",
        )
    if path is not None and form in GRAPHS:
        result = _graph(model, path, form, head, fuse, batches, tolerance)
    elif path is not None:
        result = _weights(model, path, layout, head)
    if push_to_hub is not None:
        from .publish import publish

        result |= publish(model, push_to_hub, public=public, extra=path)
    return result


def _check_encoder(ref: str | Path, folder: Path, path: Path | None, layout: str | None) -> None:
    """Raise UsageError for what does not leave a video encoder of transformers.

    A probe on it does, and so does a model folder of ours that holds or names it.
    """
    from ..conversion.layouts.vjepa2_probe import LAYOUTS

    if path is not None and layout not in LAYOUTS:
        raise UsageError(
            f"{ref}: a video encoder of transformers cannot be exported",
            f"transformers itself exports it; of a probe on it: --layout {' or '.join(LAYOUTS)}",
        )
    if path is None and is_encoder_folder(folder):
        raise UsageError(f"{ref} is a folder of transformers already", "hf upload puts it there")


def default_file(model: str, suffix: str) -> Path:
    """``runs/export-<model>-<n>`` with a suffix and the first n that is free."""
    stem = re.sub(r"[^A-Za-z0-9._@+-]+", "_", Path(model).name or model)
    n = 1
    while (file := Path("runs") / f"export-{stem}-{n}{suffix}").exists():
        n += 1
    return file


def _check_graph(
    form: str | None, fuse: bool, batch_check: Sequence[int], tolerance: float
) -> None:
    """Raise UsageError for wrong settings of graphs, or settings of graphs for other formats."""
    if form == "onnx":
        require_onnx()
    if fuse and form not in GRAPHS:
        raise UsageError("--fuse makes weights that no model could load", "use it with a graph")
    if not batch_check or any(batch < 1 for batch in batch_check):
        sizes = ",".join(map(str, batch_check))
        raise UsageError(f"--batch-check {sizes}: sizes are at least 1", "write 1,3")
    if not tolerance > 0:
        raise UsageError(f"--tolerance must be above 0, not {tolerance:g}")


def _check_file(path: Path, overwrite: bool) -> None:
    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(f"--out {path} is there already", "name another file, or pass --overwrite")
    check_writable(path)


def _graph(
    ref: str | Path,
    path: Path,
    form: str,
    head: str | None,
    fuse: bool,
    batches: Sequence[int],
    tolerance: float,
) -> dict[str, Any]:
    """Trace a model, write it and run the file, which is only kept where it is right."""
    from . import programs
    from .metadata import describe

    model, trunk = _open(ref, head, fuse)
    if form == "onnx":
        programs.check_size(model)
    spec, metadata = trunk.spec, describe(model)
    shape = (trunk.in_channels, spec.frames, spec.size, spec.size)
    program = programs.trace(model, shape)
    with written(path) as part:
        if form == "onnx":
            programs.write_onnx(program, shape, part, metadata)
            run = programs.open_onnx(part)
        else:
            programs.write_program(program, part, metadata)
            run = programs.open_program(part)
        found = programs.compare(model, run, shape, batches)
        if not found.within(tolerance):
            raise VidinitError(
                f"the exported file differs from the model by {found.max_difference:.1e} (largest "
                f"output {found.scale:.3g}), more than {tolerance:g}, and was not kept",
                "--tolerance sets the bound",
            )
    return {
        "model": trunk.name,
        "format": form,
        "out": str(path),
        "batches": found.batches,
        "max_difference": found.max_difference,
        "scale": found.scale,
        "tolerance": tolerance,
        "fused": fuse,
    }


def _weights(ref: str | Path, path: Path, layout: str | None, head: str | None) -> dict[str, Any]:
    from .metadata import describe
    from .weights import tensors_of, write_weights

    if is_detector(ref):
        return _detector_weights(ref, path, layout, head)
    model = load_classifier(ref, head=head)
    state = tensors_of(model, layout)
    metadata = {**describe(model), **({} if layout is None else {"layout": layout})}
    if layout is not None:
        from ..conversion.layouts import read_write, vjepa2_probe

        of_probe = layout in vjepa2_probe.LAYOUTS
        for note in (vjepa2_probe if of_probe else read_write).said_of_writing(model, layout):
            say(note)
    with written(path) as part:
        write_weights(state, part, metadata)
    form = "safetensors" if path.suffix == ".safetensors" else "pickle"
    return {
        "model": model.name,
        "format": form,
        "layout": layout,
        "tensors": len(state),
        "out": str(path),
    }


def _detector_weights(
    ref: str | Path, path: Path, layout: str | None, head: str | None
) -> dict[str, Any]:
    """Write a detector's tensors: the trunk's and the head's, by its own names or a layout's."""
    from ..conversion.detectors import BOX_LAYOUTS, write_detector
    from .metadata import describe
    from .weights import write_weights

    if head is not None:
        raise UsageError(f"{ref} is a detector, which has one head only", "leave --head out")
    detector = load_detector(ref)
    if layout is None:
        state = {key: value.detach().contiguous() for key, value in detector.state_dict().items()}
    else:
        state = write_detector(detector, layout)
        if BOX_LAYOUTS[layout].either:
            say(f"in {layout} it is read with DETECTION.ALIGNED {detector.settings.aligned}")
    metadata = {**describe(detector.trunk), "detect": detector.card().as_dict()}
    with written(path) as part:
        write_weights(state, part, metadata if layout is None else {**metadata, "layout": layout})
    return {
        "model": detector.name,
        "format": "safetensors" if path.suffix == ".safetensors" else "pickle",
        "layout": layout,
        "tensors": len(state),
        "out": str(path),
    }


def _open(
    ref: str | Path, head: str | None, fuse: bool
) -> tuple[VideoModel | PairModel, VideoModel]:
    """The model to trace, with both heads where it has two, and the video model in it."""
    from ..zoo.build import create_model
    from ..zoo.pair import PairModel

    if model_folder(ref) is None:
        say(f"{ref}: a zoo name, so its weights are random")
        model = create_model(str(ref)).eval()
    elif head is None and label_kind_of(ref) == "pair":
        pair = load_pair(ref)
        trunk = pair.model.fuse() if fuse else pair.model
        return PairModel(trunk, pair.noun, pair.nouns).eval(), trunk
    else:
        model = load_classifier(ref, head=head)
    model = model.fuse() if fuse else model
    return model, model
