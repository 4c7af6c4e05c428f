"""Class names of data sets as a person would write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Between a small letter or digit and a capital, and before the last capital of a run: BMX|Riding.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def clean(name: str) -> str:
    """A class name in plain words.

    ``ApplyEyeMakeup`` (UCF101) becomes ``Apply Eye Makeup``; ``brush_hair`` (HMDB51) and
    ``adult+female+singing`` (Moments in Time) become words; ``Pushing [something]`` of
    Something-Something v2 loses its brackets. Quotes around a name go, and so do spaces that are
    doubled or stand at an end. A name of several words is no camel case, and no letter changes: the
    text towers' tokenizers write all of them small.
    """
    name = name.strip().strip('"').strip()
    name = re.sub(r"\[([^\[\]]*)\]", r"\1", name)
    if not re.search(r"\s", name):
        name = re.sub(r"[_+]", " ", name)
        name = _HUMP.sub(" ", name) if " " not in name else name
    return " ".join(name.replace("_", " ").split())


def match(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Where each name stands among the known ones, -1 for nowhere.

    A name that is not there as it is written is looked for as `clean` writes both, whatever the
    case: ``brush_hair`` is ``Brush hair``.
    """
    exact = {name: i for i, name in enumerate(known)}
    # The first of several that are the same words.
    words = {clean(name).casefold(): i for i, name in reversed(list(enumerate(known)))}
    return [exact.get(name, words.get(clean(name).casefold(), -1)) for name in names]
