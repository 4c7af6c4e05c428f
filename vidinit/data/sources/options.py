"""The settings that all sources share, and what data sets call their parts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from .access import Kinds
from .classes import ClassList

PartName = Literal["all", "train", "val", "test"]

# What data sets call their parts, in folder names and in split columns.
PART_NAMES: dict[str, PartName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read.

    Attributes:
        kinds: which files of folders and archives count.
        root: folder that listed paths are relative to; None: the folder of the list.
        names: the classes in order, as a file of class names gives them; None: the source's own.
        classes: the classes of the training data, which labels must index; None: any.
        nouns: its second classes, where labels are a verb and a noun.
        split: which official split of UCF101, HMDB51, NTU RGB+D or Toyota Smarthome.
        labeled: whether labels are wanted; without, they need not be there.
    """

    kinds: Kinds = "video"
    root: str | None = None
    names: ClassList | None = None
    classes: tuple[str, ...] | None = None
    nouns: tuple[str, ...] | None = None
    split: int = 1
    labeled: bool = True

    def base_of(self, file: str) -> str:
        """The folder that the paths in a list are relative to."""
        return os.path.dirname(file) if self.root is None else self.root
