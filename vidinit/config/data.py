"""Settings of data: what is read, and how a clip is cut from it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from .section import Section

CLIP = (
    *("frames", "stride", "sampling", "short", "steps", "fps"),
    *("size", "crop_pct", "interpolation", "channels"),
)
"""Settings of `DataConfig` that are settings of a model's clips."""


class DataConfig(Section):
    """Videos that are read, and clips that are cut from them."""

    train: str | list[str] | None = None
    """A folder per class, a folder with train/ and val/, a list, tar shards; several are joined."""
    val: str | list[str] | None = None
    """Validation data in the same forms; default: val/ beside train/, else a split of train."""
    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of each class held out when there is no validation data."""
    root: str | None = None
    """Folder that the paths of a list are relative to; default: the folder of the list."""
    class_names: str | None = None
    """File with the class names in order, one a line, or as json or csv with ids."""
    split: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    """Official split of UCF101, HMDB51, NTU RGB+D, Toyota Smarthome; all: a run each, and means."""
    shots: int | None = Field(None, ge=1)
    """Train on this many clips of each class, chosen by train.seed; default: on all."""
    balance: Literal["classes", "none"] = "none"
    """In an epoch, each clip once, or all classes equally often: rare ones' clips repeat."""
    modality: Literal["rgb", "flow"] | None = None
    """Input of the model; default: what it was trained on. Teachers see RGB in any case."""
    flow: Literal["dis", "raft"] | None = None
    """Method that estimates optical flow; default: the one the model was trained on, or dis."""
    flow_bound: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Largest motion in pixels of the decoded frame; default: as for the model before, or 20."""
    flow_weights: str | None = None
    """File with the weights of torchvision's RAFT; default: those of its hub."""
    frames: int | None = Field(None, ge=1)
    """Frames of a clip; default: the model's."""
    stride: int | None = Field(None, ge=1)
    """Video frames from one clip frame to the next; default: the model's."""
    sampling: Literal["dense", "uniform", "all"] | None = None
    """Neighboring frames, one of each of equal segments (TSN), or all; default: the model's."""
    short: Literal["loop", "hold"] | None = None
    """A video shorter than a clip starts again, or its last frame is held; default: the model's."""
    steps: Literal["stride", "whole", "linspace"] | None = None
    """Clips as our, MMAction2's or SlowFast's code cuts them (data.md); default: the model's."""
    fps: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Frames a second in which `stride` counts; 0: those of each video; default: the model's."""
    channels: Literal["rgb", "bgr"] | None = None
    """Order of the colors that the network gets; default: the model's."""
    size: int | None = Field(None, ge=16)
    """Side of the square crop in pixels; default: the model's."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 8
    """Clips per process and step; auto: in training, the largest batch that fits into memory."""
    repeats: int = Field(1, ge=1)
    """Clips that are cut from one video at a time, augmented each on its own."""
    workers: int | None = Field(None, ge=0)
    """Decoding processes per training process; default: one less than the cores, 1 to 8."""
    deadline: float = Field(60.0, gt=0)
    """Seconds after which a decoder that gives no answer is killed and its file left out."""
    reader: Literal["auto", "decord", "pyav", "torchcodec"] = "auto"
    """Decoder; auto is PyAV, and so is any other for files that it is not exact for."""
    decode_side: int | None = Field(None, ge=16)
    """Short side of the frames out of the decoder, in pixels; default: as the video is."""
    start: Literal["random", "center"] = "random"
    """Begin of a training clip in its video."""
    min_area: float = Field(0.25, gt=0, le=1)
    """Smallest share of the frame that a random crop covers; 1 takes the whole frame."""
    jitter: tuple[int, int] | None = None
    """Resize the short side to between these pixels and crop; default: crops by area."""
    crop_pct: float | None = Field(None, gt=0, le=1)
    """Crop side over short side at test time; default: the model's."""
    interpolation: Literal["bicubic", "bilinear"] | None = None
    """How frames are resized, with antialiasing; default: as the model's weights want it."""
    flip: bool | Literal["auto", "swap"] = "auto"
    """Mirror half of the clips; auto: unless a class has left or right in it; swap: labels, too."""
    randaug: str = ""
    """RandAugment in timm's words, as rand-m7-n4-mstd0.5-inc1; empty for none."""
    color_jitter: float = Field(0.0, ge=0)
    """Largest change of brightness, contrast and saturation, as a share."""
    grayscale: float = Field(0.0, ge=0, le=1)
    """Share of the training clips without color."""
    erasing: float = Field(0.0, ge=0, le=1)
    """Share of the training clips of which a box is erased, the same in all frames."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of mixup; 0 for none."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of cutmix; 0 for none. With both, each batch gets one of them."""
    fit: Literal["letterbox", "whole"] | None = None
    """Key frames where boxes are scored: with bars to a square, or whole, of short side `size`."""
    visible: float = Field(0.5, ge=0, le=1)
    """Boxes of which a crop leaves a smaller share are not trained on."""
    time_origin: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Second of the film that videos begin at, for boxes by time; default: 0, or AVA's 900."""
    max_bad: float = Field(0.05, ge=0, le=1)
    """Share of unreadable files above which a run refuses to start: 0.05, or 5%."""
    partial: Literal["keep", "drop"] = "keep"
    """Of a file that is cut off or damaged the frames before that are kept, or it is left out."""

    @property
    def recolored(self) -> list[str]:
        """The augmentations that are on and work on colors, which optical flow has none of."""
        names = ("randaug", "color_jitter", "grayscale", "erasing")
        return [name for name in names if getattr(self, name)]

    @property
    def one_split(self) -> int:
        """`split` in one of the runs of a set."""
        if self.split == "all":
            raise RuntimeError("data.split=all has not been taken apart")
        return self.split

    @property
    def clips(self) -> int:
        """`batch_size`, once it is a number."""
        if self.batch_size == "auto":
            raise RuntimeError("data.batch_size=auto has not been settled")
        return self.batch_size

    @field_validator("max_bad", mode="before")
    @classmethod
    def _percent(cls, value: object) -> object:
        if isinstance(value, str) and value.strip().endswith("%"):
            try:
                return float(value.strip()[:-1]) / 100
            except ValueError:
                return value
        return value
