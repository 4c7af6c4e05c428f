"""A timm CNN plus a temporal plan is a video model.

`inflate` puts temporal kernels into an image network and remembers, for every tensor of the result,
which tensor of the image network it came from and by which rule. Conversion reads that table.

What the plans mean and which layers they change: `apply`, `plan_layers`. How an image network is
read: `read_network`.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..base import VideoModel
from ..families.vit import fit_images
from ..modify.depth import by_timm
from ..spec import ClipSpec, Origin
from .apply import apply_plan
from .read_network import read_network


class InflatedNet(VideoModel):
    """An image network run frame by frame, with temporal kernels inside where the plan says."""

    def __init__(self, trunk: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__(num_features, num_classes)
        self.trunk = trunk

    def fit_clip(self, spec: ClipSpec) -> None:
        """The positions of a plain vision transformer are resized; see `vit.fit_images`."""
        fit_images(self.trunk, spec.size)

    def feature_maps(self, x: Tensor) -> Tensor:
        """As timm's network has them: maps, channels first or last, or (B*T', L, C) tokens."""
        return self.trunk.forward_features(x)  # type: ignore[operator, no-any-return]

    def pooled(self, maps: Tensor) -> Tensor:
        """What timm's network makes of each frame's features, averaged over the clip's frames."""
        frames: Tensor = self.trunk.forward_head(maps)  # type: ignore[operator]
        return frames.view(-1, self.frames.value, self.num_features).mean(dim=1)

    def spread(self, maps: Tensor, clips: int) -> Tensor:
        """Places of the frames' maps; of transformers the patch tokens.

        A class token, and registers, are none of them, even where they are what is pooled. Where
        timm's network has a layer behind its pooling that changes the width, the tokens are what
        that makes of each place alone.
        """
        if maps.dim() == 3:
            places = maps[:, getattr(self.trunk, "num_prefix_tokens", 0) :]
        elif maps.shape[1] == self.trunk.num_features:
            places = maps.permute(0, 2, 3, 1)
        else:
            places = maps
        if places.shape[-1] != self.num_features:
            places = self.trunk.forward_head(places.flatten(0, -2)[:, :, None, None])  # type: ignore[operator]
        return places.reshape(clips, -1, self.num_features)

    def layer_ids(self) -> dict[str, int]:
        """As timm numbers the layers of the image network."""
        return by_timm(self, self.trunk)


def inflate(
    image_model: nn.Module,
    plan: str,
    *,
    num_classes: int,
    cut: str = "all",
    gating: bool = False,
    sts: bool = True,
    aligned: bool = False,
    pool: bool = False,
    bottleneck: bool = False,
    time_padding: str = "zeros",
) -> InflatedNet:
    """Put a temporal plan on a timm CNN.

    Args:
        image_model: a timm model whose classifier was removed (``num_classes=0``), so that it
            returns pooled features (B, C). It is changed in place and becomes the trunk.
        plan: ``c2d``, ``i3d``, ``s3d``, ``sts`` or ``tsm``.
        num_classes: size of the new head.
        cut: which of the plan's layers get it, in the order they run: ``all``, ``top:K`` (the last
            K), ``bottom:K`` (the first K) or ``stages:2,3`` (those of stages 2 and 3, the stem
            being stage 0).
        gating: self-gating behind the temporal layers of plans ``i3d``, ``s3d`` and ``sts``.
        sts: False gives the plain twin of plan ``sts``: same keys, ordinary 3-D kernels.
        aligned: the clean form of strided depthwise kernels of plan ``sts``.
        pool: 2x1x1 max-pool after the first stage; plans ``c2d`` and ``i3d`` on ResNets only.
        bottleneck: plan ``i3d`` in the form of the SlowFast line, on ResNets with bottlenecks only.
        time_padding: ``zeros``, or ``replicate``: the end frames repeated, which makes mean
            inflation exact on still clips.

    Returns:
        The model, with fresh values in all temporal kernels, and with `origins` filled.

    Raises:
        UsageError: when the plan is not defined for this network, with the reason.
    """
    network = read_network(image_model)
    model = InflatedNet(image_model, network.features, num_classes)
    before = {id(t): key for key, t in image_model.state_dict(keep_vars=True).items()}
    origins = apply_plan(
        plan,
        image_model,
        network,
        model.frames,
        cut=cut,
        gating=gating,
        sts=sts,
        aligned=aligned,
        pool=pool,
        bottleneck=bottleneck,
        time_padding=time_padding,
    )
    for key, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in origins:
            model.origins[key] = origins[id(tensor)]
        elif id(tensor) in before:
            model.origins[key] = Origin(before[id(tensor)], "copy")
    return model
