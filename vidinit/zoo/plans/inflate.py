"""The mechanism that plans on convolutional networks share: a timm CNN is changed layer by layer.

An `Inflation` reads an image network, lets a plan choose among its convolutions, puts temporal
layers into it, and remembers for every tensor of the result which tensor of the image network it
came from and by which rule. Conversion reads that table (`VideoModel.origins`).

All temporal kernels have stride 1 in time and, but for the stem of I3D's bottleneck form, three
taps. Padding in space is that of the image network, TensorFlow's SAME included, so that ``tf_``
networks stay exact. Even kernels (the patches of ConvNeXt's stem and downsampling) have no middle
and stay with single frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ..base import VideoModel
from ..families.vit import check_images, fit_images, is_vit
from ..folding import FrameCount
from ..modify.depth import by_timm
from ..spec import ClipSpec, Origin
from ..temporal import SelfGating, TemporalConv, VolumeConv, VolumePool
from .read_network import ConvLayer, read_network

TAPS = 3

CUT_FORM = re.compile(r"(?P<end>top|bottom):(?P<count>\d+)|stages:(?P<stages>\d+(?:,\d+)*)")


class InflatedNet(VideoModel):
    """An image network run frame by frame, with temporal kernels in the layers of the plan.

    Attributes:
        trunk: timm's network.
        class_tokens: how many class tokens are side by side in a descriptor; 0 where it is what
            timm's network makes of its features.
    """

    def __init__(self, trunk: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__(num_features, num_classes)
        self.trunk = trunk
        self.class_tokens = 0

    def join_class_tokens(self, count: int) -> None:
        """Let descriptors be the first tokens side by side, which timm's network averages.

        Distilled networks have a classifier for each of two class tokens: only then a linear head
        can be both. The head is new.
        """
        self.class_tokens = count
        self.num_features *= count
        self.reset_head(self.num_classes)

    def fit_clip(self, spec: ClipSpec) -> None:
        """The positions of a plain vision transformer are resized; see `vit.fit_images`.

        Raises:
            UsageError: for a size that the network does not take.
        """
        fit_images(self.trunk, spec.size)
        if not is_vit(self.trunk):
            self.frames.value = 1
            check_images(self.trunk, spec.size, self.name)

    def feature_maps(self, x: Tensor) -> Tensor:
        """As timm's network has them: maps, channels first or last, or (B*T', L, C) tokens."""
        return self.trunk.forward_features(x)  # type: ignore[operator, no-any-return]

    def pooled(self, maps: Tensor) -> Tensor:
        """Timm's head on each frame's features, averaged over the clip's frames: (B, C)."""
        if self.class_tokens:
            frames = maps[:, : self.class_tokens].flatten(1)
        else:
            frames = self.trunk.forward_head(maps)  # type: ignore[operator]
        return frames.view(-1, self.frames.value, self.num_features).mean(dim=1)

    def spread(self, maps: Tensor, clips: int) -> Tensor:
        """The positions of the frames' maps, (B, T*H*W, C); of transformers the patch tokens.

        A class token, and registers, are none of them, even where they are what is pooled. Where
        timm's network has a layer behind its pooling that changes the width, that layer is applied
        to each position by itself.
        """
        if maps.dim() == 3:  # (B*T, L, C)
            tokens = maps[:, getattr(self.trunk, "num_prefix_tokens", 0) :]
        elif maps.shape[1] == self.trunk.num_features:  # (B*T, C, H, W)
            tokens = maps.permute(0, 2, 3, 1)
        else:  # (B*T, H, W, C), as Swin and its kin have it
            tokens = maps
        if self.class_tokens:  # each patch stands beside itself, as wide as a descriptor
            tokens = torch.cat([tokens] * self.class_tokens, dim=-1)
        elif tokens.shape[-1] != self.num_features:
            # One position is a map of 1 x 1 to the head.
            tokens = self.trunk.forward_head(tokens.flatten(0, -2)[:, :, None, None])  # type: ignore[operator]
        return tokens.reshape(clips, -1, self.num_features)

    def placed(self, maps: Tensor, clips: int, size: tuple[int, int]) -> Tensor:
        """The tokens in their places, (B, T', H', W', C).

        Raises:
            UsageError: for tokens of which neither the network nor their number tells the places.
        """
        if maps.dim() == 3:
            grid = self._grid(maps.shape[1] - getattr(self.trunk, "num_prefix_tokens", 0), size)
        elif maps.shape[1] == self.trunk.num_features:
            grid = (maps.shape[2], maps.shape[3])
        else:
            grid = (maps.shape[1], maps.shape[2])
        return self.spread(maps, clips).unflatten(1, (-1, *grid))

    def _grid(self, count: int, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of so many tokens: as many as frames have patches, or in proportion."""
        sides = getattr(getattr(self.trunk, "patch_embed", None), "dynamic_feat_size", None)
        found = None if sides is None else tuple(int(side) for side in sides(size))
        if found is not None and found[0] * found[1] == count:
            return found[0], found[1]
        rows = round((count * size[0] / size[1]) ** 0.5)
        if rows and count % rows == 0 and rows * size[1] == count // rows * size[0]:
            return rows, count // rows
        raise UsageError(
            f"{self.name} has {count} tokens of a frame of {size[0]} x {size[1]} pixels, which do "
            "not tell their places",
            "take a network with maps, or square frames",
        )

    @property
    def in_patches(self) -> bool:
        """True for vision transformers."""
        return is_vit(self.trunk)

    def layer_ids(self) -> dict[str, int]:
        """As timm numbers the layers of the image network."""
        return by_timm(self, self.trunk)


class ThenTime(nn.Module):
    """A module of the image network followed by temporal ones.

    Args:
        space: of the image network.
        time: a temporal convolution or unit; None where the space module holds it.
        gate: behind it; None for none.
    """

    def __init__(self, space: nn.Module, time: nn.Module | None, gate: nn.Module | None) -> None:
        super().__init__()
        self.space = space
        self.time = time
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T, C', H', W')."""
        x = self.space(x)
        if self.time is not None:
            x = self.time(x)
        return x if self.gate is None else self.gate(x)


class Inflation:
    """A plan at work on one image network, which is changed in place.

    Args:
        plan: its name, for messages.
        image_model: a timm model whose classifier was removed (``num_classes=0``), so that it
            returns pooled features (B, C). It becomes the trunk.
        num_classes: size of the new head.
        any_network: True for a plan that puts nothing into convolutions.

    Attributes:
        network: the image network's convolutions, as `read_network` found them.
        model: the video model.

    Raises:
        UsageError: when no temporal layer can be put into the network, with the reason.
    """

    def __init__(
        self, plan: str, image_model: nn.Module, num_classes: int, *, any_network: bool = False
    ) -> None:
        self.plan = plan
        self.network = read_network(image_model)
        if not any_network:
            self._require_convolutions(image_model)
        self.model = InflatedNet(image_model, self.network.features, num_classes)
        # By id, not by key: keys change where modules are wrapped.
        state = image_model.state_dict(keep_vars=True)
        self._image_keys = {id(tensor): key for key, tensor in state.items()}
        self._origins: dict[int, Origin] = {}

    def _require_convolutions(self, trunk: nn.Module) -> None:
        name = self.network.name
        if any(type(module).__name__ == "CondConv2d" for module in trunk.modules()):
            raise UsageError(
                f"plan {self.plan} cannot treat {name}: it mixes its kernels anew for every image",
                "use --to c2d",
            )
        for layer in self.network.layers:
            if not layer.whole_frames:
                raise UsageError(
                    f"plan {self.plan} cannot treat {name}: {layer.name} does not work on whole "
                    "frames but on parts of them, as attention does",
                    "it needs a convolutional network",
                )

    @property
    def frames(self) -> FrameCount:
        """T, which all temporal layers of the model read from here."""
        return self.model.frames

    # ------------------------------------------------------------------------ choosing layers

    def cut(self, layers: list[ConvLayer], cut: str) -> list[ConvLayer]:
        """The part of a plan's layers that a cut keeps.

        Args:
            layers: the plan's layers, in the order they run.
            cut: ``all``, ``top:K`` (the last K), ``bottom:K`` (the first K) or ``stages:2,3``
                (those of stages 2 and 3, the stem being stage 0).

        Raises:
            UsageError: where the plan has no layers in the network; for other words, for K = 0 or
                above the number of layers, and for a stage without such layers: the message says
                what there is.
        """
        name = self.network.name
        if not layers:
            where = "behind the stem" if self.network.layers else "(k odd, above 1)"
            raise UsageError(
                f"plan {self.plan} finds no k x k convolution {where} in {name}",
                "it needs a convolutional network",
            )
        if cut == "all":
            return layers
        match = CUT_FORM.fullmatch(cut)
        if match is None:
            raise UsageError(f"unknown cut '{cut}'", "use all, top:K, bottom:K or stages:A,B")
        if match["stages"]:
            wanted = {int(n) for n in match["stages"].split(",")}
            there = sorted({layer.stage for layer in layers})
            missing = sorted(wanted - set(there))
            if missing:
                raise UsageError(
                    f"plan {self.plan} has no layer in stage {missing[0]} of {name}",
                    f"its layers are in stage{'s' * (len(there) > 1)} {', '.join(map(str, there))}",
                )
            return [layer for layer in layers if layer.stage in wanted]
        count = int(match["count"])
        if count > len(layers):
            raise UsageError(
                f"cut {cut} is too large: plan {self.plan} has {len(layers)} layers in {name}",
                f"use at most {match['end']}:{len(layers)}",
            )
        if count == 0:
            raise UsageError(f"cut {cut} leaves no layer that sees time", "use --to c2d")
        return layers[-count:] if match["end"] == "top" else layers[:count]

    def require_volumes(self, layers: list[ConvLayer]) -> None:
        """Raise UsageError unless each of the layers can itself get a kernel with time."""
        for layer in layers:
            reason = why_no_volume(layer.conv)
            if reason:
                raise UsageError(
                    f"plan {self.plan} cannot give {layer.name} of {self.network.name} a temporal "
                    f"kernel: it {reason}",
                    "use --to s3d or --to tsm",
                )

    # ------------------------------------------------------------------------ changing layers

    def inflate(
        self,
        layer: ConvLayer,
        taps: int,
        *,
        time_padding: str,
        sts: bool = False,
        aligned: bool = False,
    ) -> None:
        """Give a convolution ``taps`` in time: t x k x k, or t x 1 x 1 of a pointwise one.

        Args:
            layer: one that `require_volumes` passes.
            taps: odd.
            time_padding: ``zeros`` or ``replicate``.
            sts: half of the kernel is dynamic; see `vidinit.zoo.sts`.
            aligned: its clean form where it is strided.
        """
        conv = layer.conv
        if layer.is_spatial:
            if conv.padding == "same":  # torch has it for stride 1 only, where it is k // 2
                conv.padding = (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)
            new: TemporalConv | VolumeConv = VolumeConv.of(
                conv, taps, self.frames, sts=sts, aligned=aligned, time_padding=time_padding
            )
        else:
            new = TemporalConv(
                conv.in_channels,
                conv.out_channels,
                taps,
                self.frames,
                bias=conv.bias is not None,
                sts=sts,
                time_padding=time_padding,
            ).to(conv.weight.device)
            nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        self.note(new.weight, Origin(f"{layer.name}.weight", "inflate"))
        if new.bias is not None:
            self.note(new.bias, Origin(f"{layer.name}.bias", "copy"))
        self._replace(layer.name, new)

    def follow(self, layer: ConvLayer, time: nn.Module | None, *, gating: bool = False) -> None:
        """Put temporal modules behind the last module of a convolution's group.

        Args:
            layer: its convolution.
            time: (B*T, C, H, W) to the same; None for no more than a gate.
            gating: a gate behind that, S3D-G's way. It is twice a sigmoid, so that one of zero
                weights passes its input unchanged, whatever the activation before it.
        """
        gate = None
        if gating:
            gate = SelfGating(layer.conv.out_channels, self.frames, scale=2.0)
            gate = gate.to(layer.conv.weight.device)
            self.note(gate.fc.weight, Origin(None, "zeros"))
        if time is not None or gate is not None:
            space = self.model.trunk.get_submodule(layer.end)
            self._replace(layer.end, ThenTime(space, time, gate))

    def add_pool(self) -> None:
        """Halve the frames behind the first stage of a ResNet, by a 2x1x1 max-pool."""
        first = getattr(self.model.trunk, "layer1", None)
        if not isinstance(first, nn.Sequential):
            raise UsageError(
                f"the temporal pool of plan {self.plan} is defined for ResNets, not for "
                f"{self.network.name}",
                "leave out the option pool",
            )
        first.append(VolumePool((2, 1), (2, 1), self.frames))

    def _replace(self, name: str, module: nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        setattr(self.model.trunk.get_submodule(parent), leaf, module)

    # ---------------------------------------------------------------- where tensors come from

    def note(self, tensor: Tensor, origin: Origin) -> None:
        """Record where a new tensor of the model comes from; the image network's own are known."""
        self._origins[id(tensor)] = origin

    def note_single_frames(self, why: Callable[[ConvLayer], str] | None = None) -> None:
        """Record why k x k kernels that cannot get time see one frame only.

        Args:
            why: a reason of the plan's own for a kernel, or empty.
        """
        for layer in self.network.convs:
            kh, kw = layer.conv.kernel_size
            reason = ""
            if kh % 2 == 0 or kw % 2 == 0:
                reason = f"an even kernel has no middle, {kh}x{kw}"
            elif layer.is_spatial and layer.in_classifier:
                reason = "it belongs to the classifier"
            elif layer.is_spatial and why is not None:
                reason = why(layer)
            if reason:
                self.note(
                    layer.conv.weight,
                    Origin(f"{layer.name}.weight", "copy", f"single-frame: {reason}"),
                )

    def finish(self) -> InflatedNet:
        """The model, with fresh values in all temporal kernels, and with `origins` filled."""
        for key, tensor in self.model.state_dict(keep_vars=True).items():
            if id(tensor) in self._origins:
                self.model.origins[key] = self._origins[id(tensor)]
            elif id(tensor) in self._image_keys:
                self.model.origins[key] = Origin(self._image_keys[id(tensor)], "copy")
        return self.model


def why_no_volume(conv: nn.Conv2d) -> str:
    """Why a convolution cannot get a kernel with time, continuing "it"; empty where it can."""
    kind = type(conv)
    if kind.forward is not nn.Conv2d.forward and kind.__name__ != "Conv2dSame":
        return f"computes its kernel at run time ({kind.__name__})"
    if conv.dilation != (1, 1):
        return "is dilated"
    if conv.stride[0] != conv.stride[1]:
        return "has other strides down than across"
    return "" if conv.padding_mode == "zeros" else f"pads space by {conv.padding_mode}"
