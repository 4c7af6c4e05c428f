"""SlowFast networks (Feichtenhofer et al., ICCV 2019), numerically equal to pytorchvideo's.

A wide slow pathway sees every alpha-th frame, a fast one of an eighth of its width sees all of
them. After the stem and each of the first three stages a lateral convolution, strided by alpha in
time, hands the fast features over; they are concatenated behind the slow ones. Both pathways bear
timm's ResNet names, and an image network's weights fit the slow one.

The pathways differ in T, so each has a frame count of its own; the fast one's is the model's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError
from ..base import VideoModel, init_convolutions
from ..folding import FrameCount, clip_mean, frames_by_space, time_by_space
from ..modify.depth import numbered
from ..modify.drop_path import ClipDropPath
from ..names import check_option
from ..spec import GRAY, Origin
from ..temporal import TemporalConv, VolumeConv
from .residual3d import BLOCKS, BOTTLENECKS

SLOW_FRAMES = ("stride", "linspace")
SLOW_WIDTH, FAST_WIDTH = 64, 8
FAST_STEM_TAPS = 5
EXPANSION = 4  # of a bottleneck's width
FUSION_RATIO = 2  # channels of a lateral over those of the fast pathway
BLOCKS_50_50 = BLOCKS[50][2]  # blocks of the third stage with temporal taps in the 50-50 network


def slow_indices(frames: int, alpha: int, how: str) -> list[int]:
    """Indices of the slow pathway's frames: ceil(frames / alpha), as many as a lateral gives.

    Args:
        frames: T of the clip, which the fast pathway sees whole.
        alpha: fast frames per slow frame.
        how: ``stride`` for 0, alpha, 2 alpha, ... (mmaction2, STS) or ``linspace`` for evenly
            spaced ones from the first to the last, rounded down (PySlowFast, pytorchvideo; those
            take floor(frames / alpha), so their laterals fit only clips of a multiple of alpha).
    """
    if how == "stride":
        return list(range(0, frames, alpha))
    count = -(-frames // alpha)
    return [i * (frames - 1) // max(count - 1, 1) for i in range(count)]


class Bottleneck(nn.Module):
    """Convolutions t x 1 x 1, 1 x 3 x 3 (with the stride in space) and 1 x 1 x 1, and a shortcut.

    Args:
        inputs: channels of the input.
        width: channels between the convolutions; the output has four times as many.
        taps: t; with one tap the first convolution is an image network's.
        stride: in space.
        frames: the pathway's frame count.
        sts: STS form of the first convolution, where it has more than one tap.
        bn_eps: of the norms.
    """

    is_block = True

    def __init__(
        self,
        inputs: int,
        width: int,
        taps: int,
        stride: int,
        frames: FrameCount,
        *,
        sts: bool,
        bn_eps: float,
    ) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = (
            nn.Conv2d(inputs, width, 1, bias=False)
            if taps == 1
            else TemporalConv(inputs, width, taps, frames, sts=sts)
        )
        self.bn1 = nn.BatchNorm2d(width, eps=bn_eps)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=bn_eps)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=bn_eps)
        nn.init.zeros_(self.bn3.weight)  # the papers' recipe: a fresh block passes its input
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                nn.BatchNorm2d(outputs, eps=bn_eps),
            )
        self.drop_path = ClipDropPath(frames)

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T, C', H', W')."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.drop_path(self.bn3(self.conv3(out)))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Pathway(nn.Module):
    """A ResNet with timm's names, its classifier removed.

    Args:
        width: channels of the stem.
        stem_taps: temporal taps of the 7 x 7 stem.
        taps: temporal taps of each block's first convolution, stage by stage.
        lateral: True where every stage sees a lateral's channels behind its own.
        frames: the pathway's frame count.
        sts, bn_eps: as for `Bottleneck`.
        is_new: True where no image network has its weights (`VideoModel.temporal_parameters`).
    """

    def __init__(
        self,
        width: int,
        stem_taps: int,
        taps: list[list[int]],
        frames: FrameCount,
        *,
        lateral: bool,
        sts: bool,
        bn_eps: float,
        is_new: bool,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.is_new = is_new
        self.conv1 = (
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
            if stem_taps == 1
            else VolumeConv(3, width, (stem_taps, 7, 7), frames, stride=(1, 2))
        )
        self.bn1 = nn.BatchNorm2d(width, eps=bn_eps)
        stages = []
        inputs = width
        for stage, stage_taps in enumerate(taps):
            inner = width * 2**stage
            if lateral:  # the lateral's channels come in behind the pathway's own
                inputs += inputs * FAST_WIDTH // SLOW_WIDTH * FUSION_RATIO
            blocks = []
            for index, block_taps in enumerate(stage_taps):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(
                    Bottleneck(inputs, inner, block_taps, stride, frames, sts=sts, bn_eps=bn_eps)
                )
                inputs = EXPANSION * inner
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def stem(self, x: Tensor) -> Tensor:
        """(B*T, 3, H, W) to (B*T, width, H/4, W/4)."""
        return F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)

    def stages(self) -> tuple[nn.Module, ...]:
        """The four stages in order."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def pool(self, x: Tensor) -> Tensor:
        """Mean over space and time: (B*T, C, H, W) to (B, C)."""
        return clip_mean(x, self.frames.value)


class Lateral(nn.Module):
    """Fast features at the slow pathway's frame rate: a t x 1 x 1 convolution strided in time.

    Args:
        channels: of the fast pathway; the output has twice as many.
        taps: t.
        alpha: the stride.
        frames: the fast pathway's frame count.
        norm: True where batch norm and ReLU follow; without them the layer is linear.
        bn_eps: of that norm.
    """

    is_new = True

    def __init__(
        self, channels: int, taps: int, alpha: int, frames: FrameCount, *, norm: bool, bn_eps: float
    ) -> None:
        super().__init__()
        outputs = FUSION_RATIO * channels
        self.conv = TemporalConv(channels, outputs, taps, frames, stride=alpha)
        self.norm = nn.BatchNorm2d(outputs, eps=bn_eps) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*ceil(T/alpha), 2C, H, W)."""
        out = self.conv(x)
        return out if self.norm is None else F.relu(self.norm(out), inplace=True)


class SlowFast(VideoModel):
    """Both pathways, the laterals between them, and a linear head over [slow, fast] means.

    The arguments are those of `slowfast`; further:

    Args:
        temporal_blocks: how many of the third stage's blocks have temporal taps; None for all.
        lateral_norm: True where the laterals have norms and ReLUs.
        sts: STS form of the blocks' temporal convolutions.

    Raises:
        UsageError: for a depth, alpha, fusion or slow_frames that there is not.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        depth: int,
        alpha: int,
        fusion: int,
        slow_frames: str = "stride",
        temporal_blocks: int | None = None,
        lateral_norm: bool = True,
        sts: bool = False,
        bn_eps: float = 1e-5,
    ) -> None:
        _check(depth, alpha, fusion, slow_frames)
        super().__init__(EXPANSION * (SLOW_WIDTH + FAST_WIDTH) * 8, num_classes, dropout=0.5)
        self.alpha = alpha
        self.slow_frames = slow_frames
        # The fast pathway sees time in every stage, the slow one in the last two, as in the paper.
        taps = [[3] * blocks for blocks in BLOCKS[depth]]
        if temporal_blocks is not None:
            taps[2][temporal_blocks:] = [1] * len(taps[2][temporal_blocks:])
        still = [[1] * blocks for blocks in BLOCKS[depth][:2]]
        self.slow = Pathway(
            SLOW_WIDTH,
            1,
            still + taps[2:],
            FrameCount(),
            lateral=True,
            sts=sts,
            bn_eps=bn_eps,
            is_new=False,
        )
        self.fast = Pathway(
            FAST_WIDTH,
            FAST_STEM_TAPS,
            taps,
            self.frames,
            lateral=False,
            sts=sts,
            bn_eps=bn_eps,
            is_new=True,
        )
        self.lateral = nn.ModuleList(
            Lateral(channels, fusion, alpha, self.frames, norm=lateral_norm, bn_eps=bn_eps)
            for channels in (FAST_WIDTH, *(EXPANSION * FAST_WIDTH * 2**i for i in range(3)))
        )
        init_convolutions(self)
        self.origins = {
            key: self._origin(key) for key in self.state_dict() if not key.startswith("head.")
        }

    def _origin(self, key: str) -> Origin:
        """The slow pathway is the image network's, what an image network has not is random."""
        pathway, _, source = key.partition(".")
        if pathway != "slow":
            return Origin(None, "random")
        module = self.get_submodule(key.rpartition(".")[0])
        return Origin(source, "inflate" if isinstance(module, TemporalConv) else "copy")

    def layer_ids(self) -> dict[str, int]:
        """Blocks of both pathways side by side; a lateral counts to the layer it reads."""
        layers = [["slow.conv1", "slow.bn1", "fast.conv1", "fast.bn1", "lateral.0"]]
        for number, stage in enumerate(self.slow.stages(), 1):
            for block, _ in stage.named_children():
                layers.append([f"{path}.layer{number}.{block}" for path in ("slow", "fast")])
            layers[-1].append(f"lateral.{number}")
        return numbered(self, layers)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B*T, 3, H, W) to the maps of both pathways, (B*T', 2048, H', W'), (B*T, 256, H', W')."""
        clips = x.unflatten(0, (-1, self.frames.value))
        indices = slow_indices(self.frames.value, self.alpha, self.slow_frames)
        self.slow.frames.value, self.slow.frames.still = len(indices), self.frames.still
        slow = torch.stack([clips[:, i] for i in indices], dim=1).flatten(0, 1)
        slow = self.slow.stem(slow.contiguous(memory_format=torch.channels_last))
        fast = self.fast.stem(x)
        stages = zip(self.lateral, self.slow.stages(), self.fast.stages(), strict=True)
        for lateral, slow_stage, fast_stage in stages:
            # The lateral reads the fast features before the stage, at the slow pathway's rate.
            slow = slow_stage(torch.cat([slow, lateral(fast)], dim=1))
            fast = fast_stage(fast)
        return slow, fast

    def pooled(self, maps: tuple[Tensor, Tensor]) -> Tensor:
        """The maps of both pathways to (B, 2304), the slow one's features first."""
        return torch.cat([self.slow.pool(maps[0]), self.fast.pool(maps[1])], dim=1)

    def spread(self, maps: tuple[Tensor, Tensor], clips: int) -> Tensor:
        """The maps of both pathways to (B, N, 2304), N = T' * H' * W' of the slow one.

        A token has behind its slow features the mean of the fast frames that fall into its share of
        the clip.
        """
        slow, fast = maps
        height, width = slow.shape[2:]
        steps = self.slow.frames.value, height * width
        shares = F.adaptive_avg_pool2d(time_by_space(fast, self.fast.frames.value), steps)
        fast = frames_by_space(shares, height, width)
        return super().spread(torch.cat([slow, fast], dim=1), clips)

    def placed(self, maps: tuple[Tensor, Tensor], clips: int, size: tuple[int, int]) -> Tensor:
        """(B, T', H', W', 2304), T' of the slow pathway."""
        return self.spread(maps, clips).unflatten(1, (-1, *maps[0].shape[2:]))

    def token_frames(self) -> int:
        """The slow pathway's frames."""
        return self.slow.frames.value


def _check(depth: int, alpha: int, fusion: int, slow_frames: str) -> None:
    check_option("depth", depth, BOTTLENECKS)
    check_option("slow_frames", slow_frames, SLOW_FRAMES)
    if alpha < 1:
        raise UsageError(f"alpha must be at least 1, not {alpha}")
    if fusion < 1 or fusion % 2 == 0:
        raise UsageError(f"fusion must be an odd number of temporal taps, not {fusion}")


def slowfast(
    num_classes: int,
    *,
    depth: int = 50,
    alpha: int = 8,
    fusion: int = 5,
    slow_frames: str = "stride",
    bn_eps: float = 1e-5,
) -> SlowFast:
    """SlowFast as PySlowFast and pytorchvideo build it; it takes one clip, the fast pathway's.

    R50 4x16: 34,480,216 parameters with 400 classes, 27.639 GMACs at 32x224x224; R50 8x8 (alpha 4,
    fusion 7): 34,566,488 and 50.309.

    Args:
        num_classes: size of the head.
        depth: of both pathways, 50, 101 or 152.
        alpha: fast frames per slow frame.
        fusion: temporal taps of the laterals.
        slow_frames: which frames the slow pathway sees, see `slow_indices`.
        bn_eps: of all norms.
    """
    model = SlowFast(
        num_classes,
        depth=depth,
        alpha=alpha,
        fusion=fusion,
        slow_frames=slow_frames,
        bn_eps=bn_eps,
    )
    model.spec = GRAY
    return model


def slowfast_50_50(
    num_classes: int,
    *,
    depth: int = 101,
    alpha: int = 4,
    fusion: int = 5,
    slow_frames: str = "stride",
    bn_eps: float = 1e-5,
) -> SlowFast:
    """PySlowFast's SLOWFAST_16x8_R101_50_50: as many temporal kernels as SlowFast-R50.

    The third stage has temporal taps in its first six blocks only, in both pathways. 53,774,808
    parameters with 400 classes, 163.095 GMACs at 64x224x224. Arguments as for `slowfast`.
    """
    model = SlowFast(
        num_classes,
        depth=depth,
        alpha=alpha,
        fusion=fusion,
        slow_frames=slow_frames,
        temporal_blocks=BLOCKS_50_50,
        bn_eps=bn_eps,
    )
    model.spec = GRAY
    return model


def sts_slowfast(
    num_classes: int, *, depth: int = 50, alpha: int = 8, fusion: int = 5, sts: bool = True
) -> SlowFast:
    """STS-SlowFast (Li et al., ECCV 2022): linear laterals, STS in every t x 1 x 1 block kernel.

    R50 4x16: 34,479,288 parameters with 400 classes; 8x8 (alpha 4, fusion 7): 34,565,560.

    Args:
        num_classes, depth, alpha, fusion: as for `slowfast`.
        sts: False for the plain twin, with identical keys.
    """
    return SlowFast(
        num_classes, depth=depth, alpha=alpha, fusion=fusion, lateral_norm=False, sts=sts
    )
