"""`vidinit convert`: a checkpoint in, a video model out, with a proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoint import CARD, WEIGHTS, load_classifier, save_model
from ..conversion.classifier import Classifier, read_classifier
from ..conversion.detectors import (
    BOX_LAYOUTS,
    FoundHead,
    find_head,
    read_head,
    reads_boxes,
    without_head,
)
from ..conversion.factor import factor
from ..conversion.frozen_tower import (
    check_tower,
    named_tower,
    prove_tower,
    tower_conversion,
    tower_notes,
)
from ..conversion.layouts import vjepa2_probe
from ..conversion.layouts.read_write import fits, implied, read_layout, said_of_reading
from ..conversion.merge import COMPARED, check_alone, other_heads
from ..conversion.merge import merge as merge_adapters
from ..conversion.output_names import name_outputs, read_output_names
from ..conversion.plan_options import checked_options
from ..conversion.proof import (
    CarryOver,
    Proof,
    order_sensitivity,
    prove,
    prove_shaken,
    silent_parts,
)
from ..conversion.report import ConversionReport, order_words
from ..conversion.rules import INFLATIONS
from ..conversion.sources import VideoSource, check_layout, is_file, open_source, video_target
from ..conversion.table import ComputedTensor, Row, stage_of, transfer
from ..conversion.tower_file import on_tower
from ..errors import UsageError
from ..files import check_out, mark, written
from ..measure.flops import count_macs
from ..measure.speed import pick_device
from ..report.answer import answer
from ..report.html import Section, details, page, table
from ..report.model_parts import conversion_section, kernel_sections
from ..text.towers import activation_note
from ..zoo.adapters.tower_model import ReadTowerModel, TowerModel
from ..zoo.base import VideoModel, count_parameters, to_channels_last
from ..zoo.build import (
    assemble,
    create_model,
    has_frozen_tower,
    options_of,
    plan_of,
    set_input_channels,
)
from ..zoo.detector import FINE_LAYER, DetectSettings, as_detector, default_stride
from ..zoo.encoders.folder import is_encoder
from ..zoo.families.resnet3d import STEMS
from ..zoo.families.timesformer import TimeSformer
from ..zoo.families.vit import check_images, describe_vit, fixed_size, resize_grid
from ..zoo.images.heads import channels_of
from ..zoo.images.hub import hub_checkpoint, is_hub
from ..zoo.images.networks import ImageSource, build_image_model, class_names, clip_spec_of
from ..zoo.images.state_dicts import open_weights, told
from ..zoo.images.torchvision_models import GOOGLENET, is_torchvision
from ..zoo.images.vit_sizes import check_heads
from ..zoo.modify.output_stride import set_output_stride
from ..zoo.names import CLASSES, PLANS, Entry, check_option, find_entry, find_target
from ..zoo.temporal import TIME_PADDINGS

DETECT = "detect"
"""What ``--task`` takes."""


def convert(
    source: str,
    to: str | None = None,
    *,
    task: str | None = None,
    merge: bool = False,
    weights: str | Path | None = None,
    weights_key: str | None = None,
    ema: bool | None = None,
    layout: str | None = None,
    out: str | Path | None = None,
    inflate: str = "center",
    stem: str = "narrow",
    time_padding: str = "zeros",
    attention: str | None = None,
    resizing: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    allow_partial: bool = False,
    pretrained: bool = True,
    frames: int | None = None,
    size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    whole: bool | None = None,
    tower: str | Path | None = None,
    aligned: bool | None = None,
    class_names: str | Path | None = None,
    **options: Any,
) -> ConversionReport:
    """Turn a checkpoint into a video model and prove what carried over.

    Args:
        source: an image model, by timm name (``resnet50``) or as ``torchvision:NAME``, or a file
            whose layout is recognized: an image network or a video checkpoint; or a folder with
            ``config.json`` and weights, as transformers saves it. It may lie on the hub:
            ``hf-hub:USER/NAME``, ``hf-hub:USER/NAME/FILE``.
        to: a plan (`vidinit list plans`), with ``@top:K``, ``@bottom:K`` or ``@stages:1,2`` and
            ``-g`` for gates, put on the source's own architecture; or a zoo name (``sts-r3d50``).
            Needed but with ``merge``. For a file with an attentive probe of V-JEPA 2: the trunk it
            was trained on, ``hf:USER/NAME``, a folder of transformers or a model folder.
        task: ``detect``: a detector of actions in boxes. A detector's file of PySlowFast or
            pytorchvideo brings what reads boxes; for others it is new, for ``num_classes``.
        merge: fold the adapters of SOURCE, the model or run folder of a ``zero-cost`` model, into
            its tower: the parameters and multiply-adds of the image network are left.
        weights: local file with the weights of a named source; default: a package's, else the hub.
        weights_key: which state dict of a file is meant (``model``, ``state_dict_ema``,
            ``teacher.backbone``), where it holds several.
        ema: moving averages of the weights, or plain ones; default: averages where the file has
            them.
        layout: layout of a checkpoint whose keys fit several (`vidinit list layouts`).
        out: model folder to write; None writes nothing.
        inflate: ``center`` (exact), ``mean`` (I3D's; exact with ``time_padding`` replicate) or
            ``sts`` (taps of 1/9, 1/3 and 1/9, as STS starts on Something-Something V2; not exact).
        stem: ``wide`` gives the R3D and R(2+1)D families a stem that image weights fit exactly.
        time_padding: ``replicate`` repeats the end frames of a clip instead of zeros.
        attention: ``divided`` (default), ``joint`` or ``space``; of ``timesformer`` only.
        resizing: of a TimeSformer's embeddings for other frames or sizes: ``smooth`` (default) or
            ``nearest``, the official code's.
        num_classes: size of a new head, which starts at random; default: the source's head.
        in_channels: channels of the input, 2 for optical flow: the mean over the source's kernels,
            repeated; default: the source's channels.
        allow_partial: load what fits of a video checkpoint and list the rest.
        pretrained: start from trained image weights, or from random ones.
        frames: frames of the clip that the model folder records and the proof uses.
        size: side of its frames in pixels.
        seed: seed of random weights.
        device: where the proof is computed: auto, cpu, cuda or mps.
        overwrite: replace a folder that is there.
        whole: store a frozen tower in the folder, or only a reference to it; default: a reference
            if it is timm's, from the hub.
        tower: file with the frozen tower of a video checkpoint that holds what was trained alone
            (ST-Adapter's): CLIP's image tower; default: timm's, from the hub.
        aligned: a detector's RoIAlign counts from the centers of pixels; default: as the published
            weights of the file's code base want it (not in pytorchvideo's), else it does.
        class_names: file with the names of the head's classes in order, which files of weights
            do not tell; or AVA's label map (``.pbtxt``). A detector's new head is for these.
        options: of the plan or family, ``sts=False`` for example.

    Raises:
        UsageError: unknown names, weights that do not fit, an ``out`` that is not empty.
        VidinitError: weights that cannot be fetched.
    """
    given = {
        "to": to, "weights": weights, "ema": ema, "attention": attention, "resizing": resizing,
        "num_classes": num_classes, "in_channels": in_channels, "frames": frames, "size": size,
        "allow_partial": allow_partial or None, "tower": tower, "no_whole": whole is False or None,
        "no_pretrained": not pretrained or None, "task": task, "aligned": aligned,
        "class_names": class_names,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    of_file = {"weights_key": weights_key, "layout": layout, "option": options or None}
    if merge:
        check_alone(**given, **{key: value for key, value in of_file.items() if value is not None})
        return _merged(source, out, overwrite)
    if is_encoder(source):
        raise UsageError(
            f"{source} is a video encoder, which is taken as it is by finetune --probe and eval",
            "an image network of the hub is hf-hub:USER/NAME",
        )
    if to is None:
        raise UsageError("--to is missing: what SOURCE is to become", "see `vidinit list plans`")
    if _is_trunk(to):
        return _on_trunk(source, to, given, out, overwrite, layout, weights_key, options)
    check_option("inflation rule", inflate, INFLATIONS)
    check_option("stem", stem, STEMS)
    check_option("time padding", time_padding, TIME_PADDINGS)
    check_layout(layout)
    check_option("task", task, [None, DETECT])
    may_be_file = is_file(source) or is_hub(source)
    if task is None and aligned is not None:
        option = "--aligned" if aligned else "--no-aligned"
        raise UsageError(f"{option} says how boxes are read", "add --task detect, or leave it out")
    names = None if class_names is None else read_output_names(class_names)
    new_head = num_classes is not None
    if task == DETECT and names is not None:
        num_classes = num_classes or names.count
    if task == DETECT and num_classes is None and weights is None and not may_be_file:
        raise _no_classes(source)
    for name, value in (("frames", frames), ("num-classes", num_classes), ("size", size)):
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, not {value}")
    if layout is not None and weights is None and not may_be_file:
        raise UsageError(
            f"--layout says how a file is laid out, and '{source}' is none", "leave it out"
        )
    if not (may_be_file or is_torchvision(source)):
        wanted = find_target(to, source.split(".")[0])
        _check_entry(*wanted)
        if has_frozen_tower(wanted[1]) and ":" not in source:
            check_tower(*wanted, source)
    folder = None if out is None else check_out(Path(out), overwrite=overwrite)
    if stem != "narrow":
        options["stem"] = stem
    if time_padding != "zeros":
        options["time_padding"] = time_padding
    own = {"attention": attention, "resizing": resizing}
    options |= {key: value for key, value in own.items() if value is not None}
    options = checked_options(source, to, options)
    place = pick_device(device)
    torch.manual_seed(seed)
    named = source
    if is_hub(source) and weights is None and pretrained:
        source = str(hub_checkpoint(source) or source)
    opened = open_source(
        source,
        to,
        weights=weights,
        layout=layout,
        pretrained=pretrained,
        key=weights_key,
        ema=ema,
    )
    if source != named:
        opened.weights = named
    if tower is not None and not (isinstance(opened, VideoSource) and opened.found.tower):
        raise UsageError(
            f"--tower is for a file that holds what was trained alone, and '{named}' has all it "
            "needs",
            "leave it out",
        )
    if "network" in options and not isinstance(opened, VideoSource):
        raise UsageError(
            f"--option network: '{named}' has all the sizes of its network",
            "it is for video files, whose keys do not tell them",
        )
    if isinstance(opened, VideoSource):
        head = _take_head(opened, new=new_head) if task == DETECT else None
        if task is None and reads_boxes(opened.found, opened.outside):
            opened.notes.append("it is a detector's: --task detect takes what reads boxes, too")
        report = _from_video(opened, to, allow_partial, options, tower, whole)
    else:
        head = None
        # Files, hf-hub: and local-dir: tell their architecture only now.
        found = find_target(to, opened.arch)
        reference = None
        if has_frozen_tower(found[1]):
            check_tower(*found, opened.arch)
            origin = (opened.arch, source) if is_file(source) else (source, weights)
            reference = named_tower(opened, *origin, whole)
        elif whole is not None:
            raise _no_tower(found[0], whole)
        plan = plan_of(found[1])
        if plan is not None and plan.proof == "blocks":
            report = tower_conversion(
                opened, *found, reference=reference, frames=frames, device=place, options=options
            )
        else:
            report = _from_image(opened, *found, inflate, frames, size, place, seed, options)
            if isinstance(report.trunk, TowerModel):
                report.trunk.reference = reference
                report.notes += tower_notes(opened, report.trunk)
    inflated = any(origin.rule == "inflate" for origin in report.trunk.origins.values())
    if inflate != "center" and not inflated and not isinstance(opened, VideoSource):
        report.notes.append(f"--inflate {inflate} has nothing to do here: no kernel is inflated")
    report.source = named
    report.out = folder
    report.read = opened.read
    report.notes[:0] = opened.notes
    report.notes += [note for note in (activation_note(named),) if note]
    model = report.trunk
    shapes = {name: value.shape for name, value in model.named_parameters()}
    model.spec = replace(
        model.spec, frames=frames or model.spec.frames, size=size or model.spec.size
    )
    report.notes.extend(_resized(model, shapes))
    if task != DETECT and num_classes is not None and num_classes != model.num_classes:
        model.reset_head(num_classes)
        report.rows = [row for row in report.rows if row.stage != "head"]
        report.rows.append(Row("head", f"new, for {num_classes} classes", "initialized", 2))
    report.notes.extend(_fit_channels(model, in_channels))
    if task == DETECT:
        _make_detector(report, head, num_classes, aligned)
    if names is not None:
        report.notes += name_outputs(report.model, names)
    to_channels_last(model).eval()
    report.model.eval()
    _count(report)
    model.lineage.append(
        {
            "step": "convert",
            "source": named,
            "weights": report.weights,
            "to": report.target,
            "rule": None if report.layout else inflate,
            "layout": report.layout,
            **({} if task is None else {"task": task}),
            "read": report.read or None,
            "exact": report.exact,
            "max_difference": report.max_difference,
            "reason": report.reason,
        }
    )
    if folder is not None:
        _write(report, folder)
    return report


def _take_head(video: VideoSource, *, new: bool) -> FoundHead | None:
    """The head of boxes in a file, which is taken out of the trunk's tensors; None where none is.

    Args:
        video: its tensors, and the number of its trunk's classes, change where there is one.
        new: True where another head is wanted.
    """
    head = find_head(video.found, video.state, video.outside)
    if head is None or (new and not BOX_LAYOUTS[head.layout].own):
        return None
    video.state = without_head(video.found, video.state)
    video.found = replace(video.found, num_classes=0)
    video.notes = [note for note in video.notes if not note.startswith("left out: ")]
    video.classes, taken = None, BOX_LAYOUTS[head.layout].names()
    if video.read:
        kept = [key for key in video.read["left_out"] if not key.endswith(taken)]
        video.read["left_out"] = kept
        if kept:
            video.notes.append(f"left out: {told(kept)}")
    if new:
        video.notes.append(f"its head for {len(head.weight)} classes of boxes is left behind")
    return None if new else head


def _make_detector(
    report: ConversionReport, head: FoundHead | None, num_classes: int | None, aligned: bool | None
) -> None:
    """Make the video model of a conversion the trunk of a detector.

    Args:
        report: of the trunk; it is changed.
        head: of the file.
        num_classes: of a new head.
        aligned: how boxes are read; None for the default.

    Raises:
        UsageError: a head for another trunk, and a new head without a number of classes.
    """
    trunk = report.trunk
    if head is not None:
        set_output_stride(trunk)
        report.model, told_aligned = read_head(trunk, head, aligned=aligned)
        report.notes += [*head.notes, told_aligned]
        report.rows = [row for row in report.rows if row.stage != "head"]  # it has no classifier
        report.rows.append(Row("detect", f"read from {head.layout}", "copied", 2))
        for names in (report.missing, report.read.get("new", [])):
            names[:] = [name for name in names if not name.startswith("head.")]
        return
    if num_classes is None:
        raise _no_classes(report.source)
    stride = default_stride(trunk)
    layer = FINE_LAYER if stride is None and FINE_LAYER in trunk.map_layers() else None
    settings = DetectSettings(aligned=aligned is not False, stride=stride, layer=layer)
    report.model = as_detector(trunk, num_classes, settings)
    report.rows.append(Row("detect", f"new, for {num_classes} classes", "initialized", 2))
    if stride is not None:
        report.notes.append(
            f"the last stage is dilated: a position of the maps is {stride} pixels wide"
        )
    elif layer is not None:
        report.notes.append(f"boxes are read in the maps of {layer}, 16 pixels a position")


def _no_classes(source: str) -> UsageError:
    return UsageError(
        f"{source} has nothing that reads boxes, so that is new",
        "say for how many classes: --num-classes N, or --class-names FILE",
    )


def _merged(source: str, out: str | Path | None, overwrite: bool) -> ConversionReport:
    folder = None if out is None else check_out(Path(out), overwrite=overwrite)
    report = merge_adapters(source)
    report.out = folder
    _count(report)
    step = {"exact": report.exact, "max_difference": report.max_difference, "reason": report.reason}
    report.model.lineage.append({"step": "merge", "source": source, **step})
    if folder is not None:
        _write(report, folder, **other_heads(source))
    return report


def _is_trunk(to: str) -> bool:
    """True for a video encoder or a folder, which a probe can be put on; names of plans win."""
    if is_encoder(to):
        return True
    try:
        find_target(to, "")
    except UsageError:
        return Path(to).is_dir()
    return False


def _on_trunk(
    source: str,
    to: str,
    given: Mapping[str, Any],
    out: str | Path | None,
    overwrite: bool,
    layout: str | None,
    key: str | None,
    options: dict[str, Any],
) -> ConversionReport:
    """A probe's file on the trunk that it was trained on; see `layouts.vjepa2_probe`."""
    if foreign := [name for name in given if name != "to"]:
        raise UsageError(
            f"--{foreign[0].replace('_', '-')} is of networks, and what goes on {to} is a probe",
            "leave it out, or name a plan by --to",
        )
    if unknown := [name for name in options if name != "heads"]:
        raise UsageError(f"a probe has no option '{unknown[0]}'", "it has heads")
    heads = options.get("heads")
    if heads is not None and (type(heads) is not int or heads < 1):
        raise UsageError(f"--option heads={heads} is no number of heads", "write heads=16")
    check_option("layout", layout, [None, *vjepa2_probe.LAYOUTS])
    folder = None if out is None else check_out(Path(out), overwrite=overwrite)
    probe = vjepa2_probe.read_probe(open_weights(source, key=key), layout)
    trunk = load_classifier(to)
    model, assumed = vjepa2_probe.on_trunk(probe, trunk, heads)
    rows = [
        Row(stage, f"read from {probe.layout}", "copied", len(tensors))
        for stage, tensors in (("pooler", probe.pooler), ("head", probe.head))
    ]
    report = ConversionReport(
        source=source,
        target=f"{model.name} with an attentive probe",
        weights=source,
        model=model,
        proof=None,
        rows=rows,
        notes=[*probe.notes, *assumed],
        layout=probe.layout,
        leftovers=list(probe.others),
        out=folder,
    )
    _count(report)
    step = {"step": "convert", "source": source, "to": to, "layout": probe.layout}
    model.lineage = [*trunk.lineage, {**step, "probe": "attentive"}]
    if folder is not None:
        _write(report, folder)
    return report


def _count(report: ConversionReport) -> None:
    """Count the parameters and multiply-adds of the video model, at its clip."""
    model, spec = report.trunk, report.trunk.spec
    clip = (1, model.in_channels, spec.frames, spec.size, spec.size)
    report.params, report.gmacs = count_parameters(report.model), count_macs(model, clip) / 1e9


def _write(report: ConversionReport, folder: Path, **more: Any) -> None:
    """Write the model folder of a conversion and its page."""
    save_model(report.model, folder, conversion=[asdict(row) for row in report.rows], **more)
    mark(folder, WEIGHTS, CARD, "report.html")
    write_conversion_page(report, folder)


def _resized(model: VideoModel, before: Mapping[str, torch.Size]) -> list[str]:
    """Which embeddings have values for another number of frames or patches now, as a note."""
    told = []
    for name, value in model.named_parameters():
        for old, new in zip(before[name], value.shape, strict=True):
            if old != new:
                told.append(f"{name} from {old} to {new}")
    if not told:
        return []
    spec = model.spec
    clip = f"{spec.frames} frames of {spec.size} x {spec.size}"
    return [f"embeddings were resized for clips of {clip}: {', '.join(told)}"]


def _fit_channels(model: VideoModel, wanted: int | None) -> list[str]:
    """Give the model as many input channels as are wanted; what that changed, as notes."""
    own = model.in_channels
    if wanted is not None and wanted != own:
        set_input_channels(model, wanted)
        of = {1: "the source's", 3: "RGB's mean"}.get(own, f"the mean over the source's {own}")
        return [f"the first kernels are {of}, repeated for {_told(wanted)}"]
    if own == 3:
        return []
    mean, std = model.spec.mean[0], model.spec.std[0]
    return [
        f"the input has {_told(own)}, as the source's; each is normalized by mean {mean:.3f} and "
        f"deviation {std:.3f}"
    ]


def _told(channels: int) -> str:
    """``1 channel``, ``2 channels``."""
    return f"{channels} channel{'s' * (channels != 1)}"


def _check_entry(name: str, entry: Entry) -> None:
    if entry.backbone is None:
        raise UsageError(
            f"'{name}' has no image network whose weights fit it",
            f"teach it from an image model instead: vidinit distill --student {name}",
        )


def _from_image(
    image: ImageSource,
    name: str,
    entry: Entry,
    inflation: str,
    frames: int | None,
    size: int | None,
    device: torch.device | str,
    seed: int,
    options: dict[str, Any],
) -> ConversionReport:
    _check_entry(name, entry)
    assert entry.backbone is not None
    _check_backbone(image, entry.backbone, name)
    blank = None
    channels = channels_of(image.model)
    other = {} if channels == 3 else {"in_chans": channels}
    if entry.builder is None:
        blank = build_image_model(image.arch, num_classes=0, **other, **image.arguments)
        if image.arguments:
            options = {**options, "network": image.arguments}
    else:
        options = {**_image_options(image, entry), **options}
        if channels != 3:
            options["in_channels"] = channels
    params = count_parameters(image.model)
    classifier = read_classifier(image, blank)
    if classifier.tokens:
        options = {**options, "class_tokens": classifier.tokens}
    classes = image.num_classes or CLASSES
    model = assemble(blank, entry, num_classes=classes, name=name, **options)
    spec = model.spec
    if image.arch != GOOGLENET:  # its builder knows its pixels
        spec = clip_spec_of(image.model, frames=spec.frames, stride=spec.stride, size=spec.size)
    model.spec = replace(spec, frames=frames or spec.frames, size=size or spec.size)
    notes: list[str] = []
    if isinstance(model, TowerModel):
        notes.extend(_fit_tower(image, model.spec.size))
    elif isinstance(model, TimeSformer):
        notes.extend(_fit_image(image, model.spec.size, model.resizing))
    elif entry.builder is None and fixed_size(image.model) not in (None, 2 * (model.spec.size,)):
        notes.extend(_fit_image(image, model.spec.size, "smooth"))
    check_images(image.model, model.spec.size)
    only_read = isinstance(model, ReadTowerModel) and not model.starts_as_image
    if only_read:
        classifier = _left_out(image, model)
    notes.extend(classifier.notes)

    def carry_over(source: nn.Module, target: VideoModel) -> tuple[list[Row], list[str]]:
        state = source.state_dict()
        made: dict[str, ComputedTensor] = {}
        remarks: list[str] = []
        if entry.builder is not None:  # a plan's norms are the image network's own
            made, remarks = factor(target, state, seed, _norm_eps(image))
        made.update(classifier.values(source))
        return transfer(target, state, classifier.layer, inflation, made), remarks

    rows, remarks = carry_over(image.model, model)
    notes.extend(remarks)
    to_channels_last(model).eval()
    if isinstance(model, ReadTowerModel) and only_read:
        proof, remarks = prove_tower(image.model, model, device), []
    else:
        proof, remarks = _proof(image, model, carry_over, device)
    notes.extend(remarks)
    model.eval()
    if not proof.exact and not proof.reason:
        notes.extend(_reasons(model, entry, inflation, options))
    if image.num_classes and not only_read:
        model.classes = class_names(image)
    return ConversionReport(
        source=image.arch,
        target=name,
        weights=image.weights,
        model=model,
        proof=proof,
        rows=rows,
        notes=notes,
        image_params=params,
        image_gmacs=count_macs(image.model, (1, channels, proof.size, proof.size)) / 1e9,
    )


def _left_out(image: ImageSource, model: VideoModel) -> Classifier:
    """Take the classifier off an image network, whose descriptors are not the model's."""
    note = f"the head is new: it reads {model.num_features} channels of the side network alone"
    if image.num_classes:
        note += f", and the classifier of {image.num_classes} classes is left out"
        image.model.reset_classifier(0)  # type: ignore[operator]
    return Classifier(notes=[note])


def _proof(
    image: ImageSource,
    model: VideoModel,
    carry_over: CarryOver,
    device: torch.device | str,
) -> tuple[Proof, list[str]]:
    """The proof of a conversion, on copies with random gains where the weights hide something."""
    if not image.pretrained:
        proof = prove_shaken(image.model, model, carry_over, device)
        return proof, ["the weights are random: copies with random gains and norms were compared"]
    proof = prove(image.model, model, device, carry_over=carry_over)
    notes = []
    if proof.exact:
        silent = silent_parts(image.model)
        if silent:
            tried = prove_shaken(image.model, model, carry_over, device)
            more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
            notes.append(
                f"{silent[0]}{more} of these weights let nothing through, so copies with random "
                f"gains and norms were compared, too: {tried.verdict}, largest difference "
                f"{tried.max_difference:.1e}"
            )
            if tried.exact is False:
                return tried, notes
    features = not image.num_classes
    order = order_sensitivity(model, device, features=features, spread=proof.spread)
    return replace(proof, order=order), notes


def _fit_image(image: ImageSource, size: int, resizing: str) -> list[str]:
    """Let the image network take frames of ``size`` pixels, too; what that changed, as notes."""
    before = describe_vit(image.model)
    if before.size == (size, size):
        return []
    resize_grid(image.model, size, resizing)
    after = describe_vit(image.model)
    return [_told_grid(before.grid, after.grid)]


def _fit_tower(image: ImageSource, size: int) -> list[str]:
    """`_fit_image` of any network that can be a frozen tower, those with rotary positions too."""
    network: Any = image.model
    before = network.patch_embed.grid_size
    if tuple(network.patch_embed.img_size) == (size, size):
        return []
    network.set_input_size(img_size=(size, size))
    return [_told_grid(before, network.patch_embed.grid_size)]


def _told_grid(old: Sequence[int], new: Sequence[int]) -> str:
    before, after = ("x".join(map(str, grid)) for grid in (old, new))
    return f"the position embedding was resized from {before} to {after} patches, in both networks"


def _norm_eps(image: ImageSource) -> float:
    """The eps of the image network's batch norms; torch's default where it has none."""
    norms = (m.eps for m in image.model.modules() if isinstance(m, nn.BatchNorm2d))
    return next(norms, 1e-5)


def _image_options(image: ImageSource, entry: Entry) -> dict[str, Any]:
    """Options under which a family's graph is the image network's: its norms' eps, its pools."""
    known = options_of(entry)
    options: dict[str, Any] = {"bn_eps": _norm_eps(image)} if "bn_eps" in known else {}
    if "pools" in known:
        options |= {"pools": "googlenet", "window": None}
    return options


def _reasons(model: VideoModel, entry: Entry, inflation: str, options: dict[str, Any]) -> list[str]:
    """Why a conversion is not exact, as far as its rules tell."""
    reasons = []
    plan = plan_of(entry)
    if plan is not None and (reason := plan.why_inexact(model)):
        reasons.append(reason)
    if inflation == "sts" and any(o.rule == "inflate" for o in model.origins.values()):
        reasons.append("the taps 1/9, 1/3 and 1/9 of the image kernel sum to 5/9, by its design")
    if inflation == "mean" and options.get("time_padding") != "replicate":
        way = "; --time-padding replicate makes it exact" if entry.builder is None else ""
        reasons.append(f"mean inflation with zero padding scales the first and last frames{way}")
    if entry.builder == "resnet3d:resnet3d" and options.get("stem") != "wide":
        reasons.append("the stem has no max-pool as the image network has; --stem wide adds it")
    return reasons


def _no_tower(name: str, whole: bool) -> UsageError:
    option = "--whole" if whole else "--no-whole"
    return UsageError(
        f"{option} says where a frozen tower is kept, and '{name}' has none", "leave it out"
    )


def _from_video(
    video: VideoSource,
    to: str,
    allow_partial: bool,
    options: dict[str, Any],
    tower: str | Path | None,
    whole: bool | None,
) -> ConversionReport:
    found = video.found
    name = video_target(to, found)
    reason = fits(found, name)
    if reason:
        way = "" if found.refusal else f"--to {found.target}"
        raise UsageError(f"{video.weights} cannot become '{name}': {reason}", way)
    if whole is not None and not has_frozen_tower(find_entry(name)):
        raise _no_tower(name, whole)
    if whole is False and found.tower is None:
        raise UsageError(
            f"--no-whole: the frozen tower is in {video.weights}, and a model folder could name no "
            "other place",
            "leave it out: the folder holds it",
        )
    given = implied(found, name, options)
    check_heads(given.get("network", {}), video.weights)
    remarks: list[str] = []
    if found.tower is None:
        model = create_model(name, num_classes=found.num_classes, **given)
    else:
        model, remarks = on_tower(video.weights, found, name, given, tower, whole)
    imported = read_layout(model, video.state, found, allow_partial=allow_partial)
    remarks += said_of_reading(model, found.layout, given)
    if video.read:
        video.read["left_out"] += imported.leftovers
        video.read["new"] += imported.missing
    counted: dict[tuple[str, str, str], int] = {}
    for key in model.state_dict():
        absent = key in imported.missing
        rule = "random" if absent else f"read from {found.layout}"
        if found.tower is not None and not absent and key not in imported.loaded:
            rule = "read from the hub" if tower is None else "read from the tower's file"
        place = (stage_of(key), rule, "initialized" if absent else "copied")
        counted[place] = counted.get(place, 0) + 1
    rows = [Row(stage, rule, kind, n) for (stage, rule, kind), n in counted.items()]
    model.classes = video.classes
    return ConversionReport(
        source=video.weights,
        target=name,
        weights=video.weights,
        model=model,
        proof=None,
        rows=sorted(rows, key=lambda row: row.stage == "head"),
        notes=[*found.notes, *remarks, *imported.notes],
        layout=found.layout,
        leftovers=[*imported.leftovers, *imported.unexpected],
        missing=list(imported.missing),
    )


def _check_backbone(image: ImageSource, backbone: str, to: str) -> None:
    if image.arch == backbone:
        return
    hint = f"put a plan on the source itself: --to {', '.join(PLANS)}"
    refusal = UsageError(f"'{to}' is made of {backbone}, not of {image.arch}", hint)
    if GOOGLENET in (image.arch, backbone):
        raise refusal
    with torch.device("meta"):  # shapes alone
        want = build_image_model(backbone).state_dict()
    have = image.model.state_dict()
    if {k: v.shape for k, v in want.items()} != {k: v.shape for k, v in have.items()}:
        raise refusal


_NAMES = 500  # tensors that are named


def write_conversion_page(report: ConversionReport, folder: Path) -> None:
    """Write ``report.html`` into the model folder of a conversion."""
    with written(folder / "report.html") as part:
        part.write_text(conversion_page(report), encoding="utf-8")


def conversion_page(report: ConversionReport) -> str:
    """The page: verdict, costs, the table by stage, notes, and what the kernels look at."""
    sections = [
        _verdict(report),
        _costs(report),
        conversion_section([asdict(row) for row in report.rows]),
        *_left(report),
        *kernel_sections({"as converted": report.trunk}),
    ]
    subtitle = f"weights: {report.weights}"
    title = f"{report.source} to {report.target}"
    return page(title, sections, subtitle=subtitle, answer=_answer(report))


def _answer(report: ConversionReport) -> str:
    """What carried over, and what the proof says of it."""
    counts = {kind: report.total(kind) for kind in ("copied", "inflated", "initialized")}
    carried = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    proof = report.proof
    if proof is None:
        headline = f"Read: {sum(counts.values())} tensors"
        return answer(headline, f"{carried}. A video model has no image to be compared with.")
    told = {True: "Exact on a still clip", False: "Not exact on a still clip", None: "Not told"}
    verdict = (
        f"Logits differ by {proof.max_difference:.1e} at most, the largest is {proof.scale:.3g}"
    )
    if proof.isolated is not None:
        verdict = f"Outputs of the frozen blocks differ by {proof.max_difference:.1e} at most"
    reason = f" ({proof.reason})" if proof.reason else ""
    return answer(told[report.exact], f"{verdict}{reason}. {carried}.")


def _verdict(report: ConversionReport) -> Section:
    proof = report.proof
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    if proof is None:
        text = f"Read from the layout {report.layout}. A video model has no image to equal."
        return Section("Proof", f"<p>{escape(text)}</p>{notes}")
    what = "logit" if proof.isolated is None else "block's output"
    rows: list[tuple[str, Any]] = [
        ("verdict", f"{proof.verdict}: {proof.reason}" if proof.reason else proof.verdict),
        ("compared", "copies with random gains and norms" if proof.shaken else "these weights"),
        (f"largest difference of a {what}", f"{proof.max_difference:.1e}"),
        ("largest value, for comparison", proof.scale),
        ("largest difference of two images", proof.spread),
        ("clip", f"{proof.frames} frames of {proof.size} x {proof.size}"),
    ]
    if proof.double is not None:
        rows.append(("largest difference in double precision", f"{proof.double[0]:.1e}"))
    if proof.order is not None:
        rows.append(("when the frames of a moving clip are reversed", order_words(proof)))
    if proof.isolated is not None:
        rows.append(("a gradient reaches the frozen tower", "no" if proof.isolated else "yes"))
    note = "A clip of one repeated frame through the video model, against the image model."
    if report.compared == COMPARED:
        note = f"A {COMPARED}."
    return Section("Proof", table(("", ""), rows) + notes, note)


def _costs(report: ConversionReport) -> Section:
    spec = report.trunk.spec
    rows: list[Sequence[Any]] = []
    if report.image_params is not None:
        image = f"{report.source}, one image of {spec.size} x {spec.size}"
        rows.append([image, report.image_params / 1e6, report.image_gmacs])
    video = f"{report.target}, {spec.frames} frames of {spec.size} x {spec.size}"
    rows.append([video, report.params / 1e6, report.gmacs])
    headers = ["model", "parameters (M)", "multiply-adds (G)"]
    return Section("Costs", table(headers, rows))


def _left(report: ConversionReport) -> Iterator[Section]:
    for title, names in (
        ("Tensors of the file without a place", report.leftovers),
        ("Tensors that the file lacked", report.missing),
    ):
        if names:
            tensors = "1 name" if len(names) == 1 else f"{len(names)} names"
            body = details(tensors, table(["tensor"], [[n] for n in names[:_NAMES]]))
            yield Section(title, body)
