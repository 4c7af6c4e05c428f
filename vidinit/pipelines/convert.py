"""`vidinit convert`: a checkpoint in, a video model out, with a proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoint import CARD, WEIGHTS, save_model
from ..conversion.classifier import read_classifier
from ..conversion.factor import factor
from ..conversion.frozen_tower import check_tower, tower_conversion
from ..conversion.layouts.read_write import fits, implied, read_layout
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
from ..errors import UsageError
from ..files import check_out, mark, written
from ..measure.flops import count_macs
from ..measure.speed import pick_device
from ..report.html import Section, details, page, table
from ..report.model_parts import conversion_section, kernel_sections
from ..text.towers import activation_note
from ..zoo.base import VideoModel, count_parameters, to_channels_last
from ..zoo.build import (
    assemble,
    create_model,
    has_frozen_tower,
    options_of,
    plan_of,
    set_input_channels,
)
from ..zoo.families.resnet3d import STEMS
from ..zoo.families.timesformer import TimeSformer
from ..zoo.families.vit import check_images, describe_vit, fixed_size, resize_grid
from ..zoo.images.heads import channels_of
from ..zoo.images.hub import hub_checkpoint, is_hub
from ..zoo.images.networks import ImageSource, build_image_model, class_names, clip_spec_of
from ..zoo.images.torchvision_models import GOOGLENET, is_torchvision
from ..zoo.names import CLASSES, PLANS, Entry, check_option, find_target
from ..zoo.temporal import TIME_PADDINGS


def convert(
    source: str,
    to: str,
    *,
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
        weights: local file with the weights of a named source; default: a package's, else the hub.
        weights_key: which state dict of a file is meant (``model``, ``state_dict_ema``,
            ``teacher.backbone``), where it holds several.
        ema: moving averages of the weights, or plain ones; default: averages where the file has
            them.
        layout: layout of a checkpoint whose keys fit several (`vidinit list layouts`).
        out: model folder to write; None writes nothing.
        inflate: ``center`` (exact) or ``mean`` (I3D's; exact with ``time_padding`` replicate).
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
        whole: store the frozen tower of a ``dist`` model in the folder, or only a reference to it;
            default: a reference if it is timm's, from the hub.
        options: of the plan or family, ``sts=False`` for example.

    Raises:
        UsageError: unknown names, weights that do not fit, an ``out`` that is not empty.
        VidinitError: weights that cannot be fetched.
    """
    check_option("inflation rule", inflate, INFLATIONS)
    check_option("stem", stem, STEMS)
    check_option("time padding", time_padding, TIME_PADDINGS)
    check_layout(layout)
    for name, value in (("frames", frames), ("num-classes", num_classes), ("size", size)):
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, not {value}")
    if layout is not None and weights is None and not (is_file(source) or is_hub(source)):
        raise UsageError(
            f"--layout says how a file is laid out, and '{source}' is none", "leave it out"
        )
    if not (is_file(source) or is_torchvision(source) or is_hub(source)):
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
    if isinstance(opened, VideoSource):
        report = _from_video(opened, to, allow_partial, options)
    elif has_frozen_tower((found := find_target(to, opened.arch))[1]):
        report = tower_conversion(
            opened,
            *found,
            source=opened.arch if is_file(source) else source,
            weights=source if is_file(source) else weights,
            whole=whole,
            frames=frames,
            device=place,
            options=options,
        )
    else:
        report = _from_image(opened, to, inflate, frames, size, place, seed, options)
    report.source = named
    report.out = folder
    report.read = opened.read
    report.notes[:0] = opened.notes
    report.notes += [note for note in (activation_note(named),) if note]
    model = report.model
    shapes = {name: value.shape for name, value in model.named_parameters()}
    model.spec = replace(
        model.spec, frames=frames or model.spec.frames, size=size or model.spec.size
    )
    report.notes.extend(_resized(model, shapes))
    if num_classes is not None and num_classes != model.num_classes:
        model.reset_head(num_classes)
        report.rows = [row for row in report.rows if row.stage != "head"]
        report.rows.append(Row("head", f"new, for {num_classes} classes", "initialized", 2))
    report.notes.extend(_fit_channels(model, in_channels))
    to_channels_last(model).eval()
    clip = (1, model.in_channels, model.spec.frames, model.spec.size, model.spec.size)
    report.params, report.gmacs = count_parameters(model), count_macs(model, clip) / 1e9
    model.lineage.append(
        {
            "step": "convert",
            "source": named,
            "weights": report.weights,
            "to": report.target,
            "rule": None if report.layout else inflate,
            "layout": report.layout,
            "read": report.read or None,
            "exact": report.exact,
            "max_difference": report.max_difference,
            "reason": report.reason,
        }
    )
    if folder is not None:
        save_model(model, folder, conversion=[asdict(row) for row in report.rows])
        mark(folder, WEIGHTS, CARD, "report.html")
        write_conversion_page(report, folder)
    return report


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
    to: str,
    inflation: str,
    frames: int | None,
    size: int | None,
    device: torch.device | str,
    seed: int,
    options: dict[str, Any],
) -> ConversionReport:
    name, entry = find_target(to, image.arch)  # files, hf-hub: and local-dir: tell it only now
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
    if isinstance(model, TimeSformer):
        notes.extend(_fit_image(image, model.spec.size, model.resizing))
    elif entry.builder is None and fixed_size(image.model) not in (None, 2 * (model.spec.size,)):
        notes.extend(_fit_image(image, model.spec.size, "smooth"))
    check_images(image.model, model.spec.size)
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
    proof, remarks = _proof(image, model, carry_over, device)
    notes.extend(remarks)
    if not proof.exact and not proof.reason:
        notes.extend(_reasons(model, entry, inflation, options))
    if image.num_classes:
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
    old, new = ("x".join(map(str, grid)) for grid in (before.grid, after.grid))
    return [f"the position embedding was resized from {old} to {new} patches, in both networks"]


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
    if inflation == "mean" and options.get("time_padding") != "replicate":
        way = "; --time-padding replicate makes it exact" if entry.builder is None else ""
        reasons.append(f"mean inflation with zero padding scales the first and last frames{way}")
    if entry.builder == "resnet3d:resnet3d" and options.get("stem") != "wide":
        reasons.append("the stem has no max-pool as the image network has; --stem wide adds it")
    return reasons


def _from_video(
    video: VideoSource, to: str, allow_partial: bool, options: dict[str, Any]
) -> ConversionReport:
    found = video.found
    name = video_target(to, found)
    reason = fits(found, name)
    if reason:
        raise UsageError(
            f"{video.weights} cannot become '{name}': {reason}", f"--to {found.target}"
        )
    model = create_model(name, num_classes=found.num_classes, **{**implied(found, name), **options})
    imported = read_layout(model, video.state, found, allow_partial=allow_partial)
    if video.read:
        video.read["left_out"] += imported.leftovers
        video.read["new"] += imported.missing
    counted: dict[tuple[str, str, str], int] = {}
    for key in model.state_dict():
        absent = key in imported.missing
        rule = "random" if absent else f"read from {found.layout}"
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
        notes=[*found.notes, *imported.notes],
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
        *kernel_sections({"as converted": report.model}),
    ]
    subtitle = f"weights: {report.weights}"
    return page(f"{report.source} to {report.target}", sections, subtitle=subtitle)


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
    return Section("Proof", table(("", ""), rows) + notes, note)


def _costs(report: ConversionReport) -> Section:
    spec = report.model.spec
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
