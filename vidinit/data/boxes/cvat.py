"""Exports of CVAT as "CVAT for video 1.1": one xml file for one video.

A ``<track label>`` holds a ``<box frame xtl ytl xbr ybr outside>`` for each frame, those between
key frames too; ``outside="1"`` says that the person is not there. Frames count from 0, corners are
pixels. The action is the attribute ``action`` of a box, where the task has such an attribute, else
the label of its track.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from xml.parsers import expat

from ...errors import DataError, UsageError
from ..sources.access import MEDIA_SUFFIXES, shown, suffix_of
from .collect import MOST_FRAMES, BoxOptions, Collected, number_in

_ACTION = "action"
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_AS_VIDEO = "export the task as 'CVAT for video 1.1'"


def cvat_xml(file: str, options: BoxOptions) -> Collected | None:
    """The boxes of an export of CVAT.

    Raises:
        DataError: it is no valid xml, declares entities, is of images or of several videos, or a
            box in it is wrong.
    """
    if suffix_of(file) != ".xml":
        return None
    reader = _Reader(file)
    try:
        with open(file, "rb") as stream:
            reader.parser.ParseFile(stream)
    except expat.ExpatError as error:
        raise DataError(
            f"{file}:{error.lineno}: no valid xml ({expat.errors.messages[error.code]})", _AS_VIDEO
        ) from error
    except (LookupError, ValueError) as error:  # of the encoding that it says it has
        raise DataError(f"{file}:1: no valid xml ({error})", _AS_VIDEO) from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    return reader.collected(options)


class _Reader:
    """Gathers boxes while expat reads, so that a file of any size takes little memory."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.stack: list[str] = []
        self.text = ""
        self.source: list[str] = []
        self.attribute = ""
        self.track: Mapping[str, str] = {}
        self.tracks = 0
        self.box: Mapping[str, str] | None = None
        self.line = 0
        self.action: str | None = None
        self.has_actions = False
        self.hidden = 0
        self.others: dict[str, int] = {}
        self.boxes: list[tuple[int, int, list[float], int, str, str | None]] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.begin
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        # Entities are declared in a document type alone, and exports have none.
        self.parser.StartDoctypeDeclHandler = self.refuse_doctype

    def refuse_doctype(self, *_: object) -> None:
        raise DataError(
            f"{self.place()}: a document type, with which entities are declared", _AS_VIDEO
        )

    def place(self) -> str:
        return f"{self.file}:{self.parser.CurrentLineNumber}"

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.stack and tag != "annotations":
            raise DataError(f"{self.place()}: <{shown(tag)}> is no export of CVAT", _AS_VIDEO)
        self.stack.append(tag)
        self.text = ""
        if tag == "track":
            self.track = attributes
            self.tracks += 1
        elif tag == "image" and len(self.stack) == 2:
            raise DataError(f"{self.place()}: an export of CVAT for images", _AS_VIDEO)
        elif tag == "box" and self.stack[-2:-1] == ["track"]:
            self.box, self.line, self.action = attributes, self.parser.CurrentLineNumber, None
        elif tag == "attribute":
            self.attribute = attributes.get("name", "")
        elif self.stack[-2:-1] == ["track"]:
            self.others[tag] = self.others.get(tag, 0) + 1

    def characters(self, text: str) -> None:
        self.text += text

    def end(self, tag: str) -> None:
        self.stack.pop()
        text, self.text = self.text.strip(), ""
        if tag == "source" and "meta" in self.stack and text:
            self.source.append(text)
        elif tag == "attribute" and self.box is not None and self.attribute.lower() == _ACTION:
            self.action = text
        elif tag == "name" and self.stack[-1:] == ["attribute"] and text.lower() == _ACTION:
            self.has_actions = True
        elif tag == "box" and self.box is not None:
            self.finish(self.box)
            self.box = None

    def finish(self, box: Mapping[str, str]) -> None:
        if box.get("outside") == "1":
            self.hidden += 1
            return
        where = f"{self.file}:{self.line}"
        corners = [number_in(where, box, name) for name in _CORNERS]
        frame = number_in(where, box, "frame")
        if frame < 0 or frame % 1 or frame > MOST_FRAMES:
            raise DataError(f"{where}: frame {box['frame']} is none", "frames count from 0")
        if corners[2] < corners[0] or corners[3] < corners[1]:
            raise DataError(f"{where}: the box ends before it begins")
        label = self.track.get("label", "")
        self.boxes.append((self.line, int(frame), corners, self.tracks, label, self.action))

    def collected(self, options: BoxOptions) -> Collected:
        sources = list(dict.fromkeys(self.source))
        if len(sources) > 1:
            raise DataError(
                f"{self.file}: of {len(sources)} videos, as {shown(sources[0])} and "
                f"{shown(sources[1])}",
                "frames would be those of all of them in a row: export each task by itself",
            )
        # The sources of tracks ("manual") are attributes; a task of images has none.
        video = sources[0] if sources else os.path.splitext(os.path.basename(self.file))[0]
        acting = self.has_actions or any(action is not None for *_, action in self.boxes)
        form = f"CVAT for video: {self.tracks} tracks in {shown(video)}, actions are " + (
            f"the attribute '{_ACTION}'" if acting else "the labels of tracks"
        )
        known = suffix_of(video) in MEDIA_SUFFIXES
        found = Collected(
            self.file, merged="no", named="paths" if known else "ids", names_only=True, form=form
        )
        for line, frame, box, track, label, action in self.boxes:
            shows = (action or "") if acting else label
            found.add(line, video, frame, box, shows, track=str(track))
        if self.hidden:
            found.notes.append(f"{self.hidden:,} boxes left out in which the person is outside")
        for tag, count in self.others.items():
            found.notes.append(f"{count:,} shapes of another kind (<{shown(tag)}>) are not read")
        return found
