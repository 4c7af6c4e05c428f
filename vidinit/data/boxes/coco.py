"""Boxes in COCO's form: a json object with ``images``, ``annotations`` and ``categories``.

An image is a frame of a video: by its ``video_id`` and ``frame_id`` (or ``frame_index``) where it
has them, with the names in ``videos``; else by the folder and the number in its ``file_name``; an
image in no folder is a clip of its own. ``bbox`` is x, y, width and height in pixels.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

from ...errors import DataError
from ..rows import IMAGE_SUFFIXES
from ..sources.access import entries, read_json, suffix_of
from ..sources.classes import ClassList
from .collect import MOST_FRAMES, BoxOptions, Collected, refuse

_KEYS = frozenset(("images", "annotations", "categories"))
_FRAME = ("frame_id", "frame_index")
_TRACK = ("track_id", "instance_id")
_LARGEST = 1e9  # of coordinates in pixels, which is far beyond any picture
_LAST_NUMBER = re.compile(r"(\d{1,10})(?!.*\d)")


def coco_json(file: str, options: BoxOptions) -> Collected | None:
    """The boxes of a json file in COCO's form.

    Raises:
        DataError: an entry lacks something, or names what is not there.
    """
    if suffix_of(file) != ".json":
        return None
    value = read_json(file)
    if not isinstance(value, Mapping) or not value.keys() >= _KEYS:
        return None
    images = _by_id(file, value, "images")
    names = _names(file, value)
    frames, form = _frames(file, value, images, options)
    found = Collected(
        file,
        unit=", annotation ",
        named="paths",
        names=ClassList(tuple(names.values()), file),
        names_only=True,
        form=f"COCO: {form}, boxes of x, y, width and height",
    )
    crowds = 0
    for number, entry in enumerate(_list(file, value, "annotations"), 1):
        where = found.place(number)
        if not isinstance(entry, Mapping):
            refuse(where, entry, "expected {image_id, category_id, bbox}")
        if entry.get("iscrowd"):
            crowds += 1
            continue
        image, category = entry.get("image_id"), entry.get("category_id")
        if not _is_id(image) or image not in frames:
            refuse(where, image, "image_id names none of 'images'")
        if not _is_id(category) or category not in names:
            refuse(where, category, "category_id names none of 'categories'")
        video, frame = frames[image]
        track = next((str(entry[key]) for key in _TRACK if entry.get(key) is not None), "")
        score = entry.get("score")
        if score is not None and not _is_number(score):
            refuse(where, score, "a score is a number")
        found.add(
            number,
            video,
            frame,
            _corners(where, entry.get("bbox")),
            names[category],
            track=track,
            score=math.nan if score is None else float(score),
        )
    if crowds:
        found.notes.append(f"{crowds:,} crowds (iscrowd) left out")
    return found


def _frames(
    file: str, value: Mapping[str, Any], images: dict[Any, Mapping[str, Any]], options: BoxOptions
) -> tuple[dict[Any, tuple[str, int]], str]:
    """Video and number of the frame, from 0, of each image, and how they were found."""
    if images and all(_is_id(image.get("video_id")) for image in images.values()):
        return _of_videos(file, value, images)
    return _of_files(file, images, options)


def _of_videos(
    file: str, value: Mapping[str, Any], images: dict[Any, Mapping[str, Any]]
) -> tuple[dict[Any, tuple[str, int]], str]:
    videos = {} if "videos" not in value else _by_id(file, value, "videos")
    numbers = {}
    for key, image in images.items():
        frame = next((image[name] for name in _FRAME if name in image), None)
        if not isinstance(frame, int) or isinstance(frame, bool) or not 0 <= frame <= MOST_FRAMES:
            refuse(f"{file}, image {key}", frame, "frame_id is the number of its frame")
        numbers[key] = frame
    # Trackers count from 1; where all begin there, so does this file.
    first = min(numbers.values())
    from_one = first == 1
    found = {}
    for key, image in images.items():
        video = videos.get(image["video_id"], {})
        name = video.get("file_name", video.get("name"))
        if not isinstance(name, str) or not name:
            refuse(f"{file}, image {key}", image["video_id"], "video_id names none of 'videos'")
        found[key] = (name, numbers[key] - from_one)
    return found, f"frames by video_id and frame_id, from {int(from_one)}"


def _of_files(
    file: str, images: dict[Any, Mapping[str, Any]], options: BoxOptions
) -> tuple[dict[Any, tuple[str, int]], str]:
    found: dict[Any, tuple[str, int]] = {}
    folders: dict[str, dict[str, int]] = {}
    base = options.base_of(file)
    guessed: dict[str, list[tuple[Any, int]]] = {}
    for key, image in images.items():
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            refuse(f"{file}, image {key}", name, "file_name is that of its picture")
        folder, own = os.path.split(name.replace("\\", "/"))
        if not folder:
            found[key] = (name, 0)
            continue
        if folder not in folders:
            place = os.path.join(base, folder)
            pictures = _pictures(place) if os.path.isdir(place) else []
            folders[folder] = {picture: i for i, picture in enumerate(pictures)}
        if own in folders[folder]:
            found[key] = (folder, folders[folder][own])
        elif (match := _LAST_NUMBER.search(os.path.splitext(own)[0])) is not None:
            guessed.setdefault(folder, []).append((key, int(match[1])))
        else:
            refuse(f"{file}, image {key}", name, "its name has no number, and it is not there")
    from_one = bool(guessed) and min(n for some in guessed.values() for _, n in some) > 0
    for folder, some in guessed.items():
        found |= {key: (folder, number - from_one) for key, number in some}
    if guessed:
        return found, f"folders of frames, by the numbers in file_name, from {int(from_one)}"
    return found, "folders of frames, by their order" if folders else "pictures"


def _pictures(folder: str) -> list[str]:
    """The pictures of a folder in the order of their numbers, as its frames are."""
    names = [n for n in entries(folder) if suffix_of(n) in IMAGE_SUFFIXES and n[0] != "."]

    def number(name: str) -> tuple[int, str]:
        match = _LAST_NUMBER.search(os.path.splitext(name)[0])
        return (int(match[1]) if match else -1, name)

    return sorted(names, key=number)


def _names(file: str, value: Mapping[str, Any]) -> dict[Any, str]:
    """Name of each category, in the order of their ids."""
    found: dict[Any, str] = {}
    for key, entry in _by_id(file, value, "categories").items():
        name = entry.get("name")
        if not isinstance(name, str) or not name or name in found.values():
            refuse(f"{file}, category {key}", name, "a category has a name of its own")
        found[key] = name
    if not found:
        raise DataError(f"{file} names no category", "a label is one of 'categories'")
    return dict(sorted(found.items(), key=lambda item: str(item[0]).zfill(12)))


def _by_id(file: str, value: Mapping[str, Any], what: str) -> dict[Any, Mapping[str, Any]]:
    found: dict[Any, Mapping[str, Any]] = {}
    for number, entry in enumerate(_list(file, value, what), 1):
        key = entry.get("id") if isinstance(entry, Mapping) else None
        if not _is_id(key) or key in found:
            refuse(f"{file}, {what} {number}", key, "each has an id of its own")
        found[key] = entry
    return found


def _list(file: str, value: Mapping[str, Any], what: str) -> list[Any]:
    found = value[what]
    if not isinstance(found, list):
        refuse(f"{file}, {what}", found, "expected a list")
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < _LARGEST


def _corners(where: str, box: Any) -> list[float]:
    fine = isinstance(box, list) and len(box) == 4
    if not fine or not all(map(_is_number, box)):
        refuse(where, box, "bbox is [x, y, width, height]")
    x, y, width, height = box
    if width < 0 or height < 0:
        refuse(where, box, "width and height are not negative")
    return [x, y, x + width, y + height]
