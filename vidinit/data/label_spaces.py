"""Classes that several sources share, which may then share a head, as Kinetics-710 does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import DataError
from .rows import Row, Rows

# Kinetics' files: a YouTube id, and where in its video the clip begins and ends.
_TIMED = re.compile(r"(?P<id>[\w-]{11})_\d{6}_\d{6}")


RENAMED = {
    "balloon blowing": "inflating balloons",
    "changing wheel": "changing wheel (not on bike)",
    "cooking sausages": "cooking sausages (not on barbeque)",
    "drinking": "sipping cup",
    "dying hair": "dyeing hair",
    "garbage collecting": "person collecting garbage",
    "hugging": "hugging (not baby)",
    "making bed": "making the bed",
    "opening bottle": "opening bottle (not wine)",
    "picking fruit": "picking apples",
    "skiing (not slalom or crosscountry)": "skiing mono",
    "throwing ball": "throwing ball (not baseball or American football)",
    "tying tie": "tying necktie",
}
"""Classes of Kinetics-400, and what Kinetics-600 or -700 calls them. With these as one the three
sets have the 710 classes of Kinetics-710 (UniFormerV2, https://arxiv.org/abs/2211.09552)."""


@dataclass(frozen=True)
class LabelSpaces:
    """The heads of a co-training, and which of their outputs are whose classes.

    Attributes:
        classes: class names of each head, by its name; the first source's comes first.
        head: by source, the name of its head.
        outputs: by source, for each of its own classes the output of its head.
        names: by source, what it calls its own classes itself.
    """

    classes: dict[str, list[str]]
    head: dict[str, str]
    outputs: dict[str, list[int]]
    names: dict[str, list[str]]

    def is_whole(self, source: str) -> bool:
        """True where a source's classes are all outputs of its head, in order."""
        return self.outputs[source] == list(range(len(self.classes[self.head[source]])))


def same_class(name: str) -> str:
    """A key that names of one class share: case, spaces, hyphens and underscores do not count.

    ``"Playing Guitar"``, ``playing_guitar`` and ``PlayingGuitar`` are one.
    """
    return re.sub(r"[\W_]+", "", name).casefold()


_LATER = {same_class(name): same_class(later) for name, later in RENAMED.items()}
_RENAMED_KEYS = {
    name: f"{first} {later}" for first, later in _LATER.items() for name in (first, later)
}


def is_kinetics(names: Sequence[str]) -> bool:
    """True of class names of Kinetics: at least half of `RENAMED` is there, by either name."""
    keys = {same_class(name) for name in names}
    return sum(not keys.isdisjoint(pair) for pair in _LATER.items()) * 2 >= len(_LATER)


def label_spaces(
    classes: Mapping[str, Sequence[str]], groups: Mapping[str, str] | None = None
) -> LabelSpaces:
    """One head for each group of sources, over the union of their classes.

    In sources of Kinetics a class and what a later edition calls it are one; see `RENAMED`. A class
    of another source is that one if a source of Kinetics calls it by the same name.

    Args:
        classes: class names by source, in the order of the labels.
        groups: by source, the name of the head that it shares; sources that are not in it have one
            of their own, of their own name.

    Raises:
        DataError: when a source of a group has one class under two names.
    """
    groups = groups or {}
    heads: dict[str, list[str]] = {}
    places: dict[str, dict[str, int]] = {}
    head: dict[str, str] = {}
    outputs: dict[str, list[int]] = {}
    shared: dict[str, list[str]] = {}
    for one in dict.fromkeys(groups.values()):
        shared |= _keys({s: names for s, names in classes.items() if groups.get(s) == one})
    for source, names in classes.items():
        own = head[source] = groups.get(source, source)
        output_of = places.setdefault(own, {})
        joint = heads.setdefault(own, [])
        # A class of a head of one's own is what it is called, and nothing else.
        keys = shared.get(source, list(names))
        if source in groups:
            _check_distinct(source, names, keys)
        outputs[source] = []
        for name, key in zip(names, keys, strict=True):
            if key not in output_of:
                output_of[key] = len(joint)
                joint.append(name)
            outputs[source].append(output_of[key])
    return LabelSpaces(heads, head, outputs, {k: list(v) for k, v in classes.items()})


def _keys(classes: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each class of each source the key that it shares with the same class of others."""
    plain = {source: [same_class(name) for name in names] for source, names in classes.items()}
    kinetics = {source for source, names in classes.items() if is_kinetics(names)}
    said = {key for source in kinetics for key in plain[source]}

    def joint(source: str, key: str) -> str:
        # What other data calls so means a renamed class only where Kinetics calls it so as well.
        is_renamed = key in _RENAMED_KEYS and (source in kinetics or key in said)
        return _RENAMED_KEYS[key] if is_renamed else key

    return {source: [joint(source, key) for key in keys] for source, keys in plain.items()}


def _check_distinct(source: str, names: Sequence[str], keys: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name, key in zip(names, keys, strict=True):
        other = first.setdefault(key, name)
        if other != name:
            raise DataError(
                f"source '{source}' has the classes '{other}' and '{name}', "
                "which a merged head would take for one",
                "rename one of them, or do not merge its labels",
            )


def overlapping(classes: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Groups of sources that share a class, directly or through others.

    Args:
        classes: class names by source.

    Returns:
        By source, the name of its group, which is its sources' names with ``+`` between them;
        sources that share nothing are not in it.
    """
    keys = {source: set(own) for source, own in _keys(classes).items()}
    members: list[set[str]] = []
    for source in classes:
        touching = [group for group in members if any(keys[source] & keys[one] for one in group)]
        members = [group for group in members if group not in touching]
        members.append({source}.union(*touching))
    joint = [[one for one in classes if one in group] for group in members if len(group) > 1]
    return {source: "+".join(group) for group in joint for source in group}


def video_id(row: Row) -> str | None:
    """The id of the video that a clip was cut from, where its file's name has one.

    That is the form of Kinetics' files, ``<11 characters>_<begin>_<end>``; other names say nothing:
    two data sets may each have an ``0001.mp4``.
    """
    stem = row.path.rsplit("@", 1)[0] if "::" in row.path else row.path
    found = _TIMED.fullmatch(re.split(r"[/\\:]", stem)[-1].rsplit(".", 1)[0])
    return found["id"] if found else None


def without_leaks(
    train: Mapping[str, Rows], held_out: Mapping[str, Rows | None]
) -> tuple[dict[str, Rows], dict[str, int]]:
    """Training rows of videos that no source validates on, and each video in one source only.

    Data sets that share classes share videos: Kinetics-700 trains on what Kinetics-400 tests on.

    Args:
        train: training rows of the sources of one head.
        held_out: their validation rows; None for none.

    Returns:
        What is left of each source, and by source how many rows were dropped, where any were.
    """
    tested = {video_id(row) for rows in held_out.values() if rows is not None for row in rows.rows}
    taken: dict[str, str] = {}
    left: dict[str, Rows] = {}
    dropped: dict[str, int] = {}
    for source, rows in train.items():
        kept = []
        for row in rows.rows:
            video = video_id(row)
            if video is not None and (video in tested or taken.setdefault(video, source) != source):
                continue
            kept.append(row)
        left[source] = replace(rows, rows=tuple(kept))
        if len(kept) < len(rows):
            dropped[source] = len(rows) - len(kept)
    return left, dropped
