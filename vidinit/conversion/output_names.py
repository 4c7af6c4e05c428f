"""Names of a checkpoint's classes, which files of weights do not tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..data.boxes.ava import read_label_map
from ..data.sources.classes import read_class_names
from ..errors import UsageError
from ..zoo.base import VideoModel
from ..zoo.detector import Detector


@dataclass(frozen=True)
class OutputNames:
    """Names of outputs by their places.

    Attributes:
        names: by place, from 0.
        file: where they stand.
        gaps: True where places may be left out, as in AVA's map of 60 of its 80 actions.
    """

    names: dict[int, str]
    file: str
    gaps: bool

    @property
    def count(self) -> int:
        """How many outputs they are for, at least."""
        return max(self.names) + 1


def read_output_names(file: str | Path) -> OutputNames:
    """The names in a file: a label map (``.pbtxt``, ids from 1), or as ``--class-names`` has them.

    Raises:
        UsageError: the file is not there, or not text.
        DataError: it holds no names, or one twice.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise UsageError(f"no such file: {path}", "--class-names wants a file with the names")
    if path.suffix == ".pbtxt":
        found = {number - 1: name for number, name in read_label_map(str(path)).items()}
        if min(found) < 0:
            raise UsageError(f"{path}: ids of a label map count from 1, one is {min(found) + 1}")
        return OutputNames(found, str(path), gaps=True)
    return OutputNames(dict(enumerate(read_class_names(str(path)).names)), str(path), gaps=False)


def name_outputs(model: VideoModel | Detector, names: OutputNames) -> list[str]:
    """Give a model's outputs their names; what that left open, as notes.

    Raises:
        UsageError: other numbers of names and of outputs.
    """
    count = model.num_classes
    if names.count > count or (names.count < count and not names.gaps):
        raise UsageError(
            f"{names.file} names {names.count} classes, the head has {count} outputs",
            "give the names in the order of the outputs, or --num-classes for a new head",
        )
    model.classes = [names.names.get(place, str(place + 1)) for place in range(count)]
    missing = count - len(names.names)
    if not missing:
        return []
    return [f"{names.file} does not name {missing} of the {count} outputs: they are called by ids"]
