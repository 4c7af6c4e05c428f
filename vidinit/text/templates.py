"""Sentences that class names are put into, and the sets of them that have a name."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError, suggest

TEMPLATES: dict[str, tuple[str, ...]] = {
    "raw": ("{}",),
    "video": ("a video of {}.",),
    "action": (
        "{}",
        "a video of {}.",
        "a short clip of {}.",
        "a clip in which someone is {}.",
        "a person in the middle of {}.",
        "this video shows {}.",
        "somebody can be seen {}.",
        "the activity is {}.",
        "an example of the action {}.",
        "footage of people {}.",
        "a photo of {}.",
        "one frame of a video about {}.",
    ),
}
"""``raw`` is what DiST was trained with: the class name alone. ``video`` is one sentence; of
``action`` the embeddings are averaged."""


def read_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Sentence templates, by the name of a set, from a file, or as they are.

    Args:
        templates: the name of a set in `TEMPLATES`; a file, one template a line or a json list; a
            single template, with ``{}`` in it; or the templates themselves.

    Raises:
        UsageError: an unknown name, no such file, or a template without just one ``{}``.
    """
    if not isinstance(templates, str):
        return _checked(templates, "templates")
    if "{}" in templates:
        return _checked([templates], "templates")
    if templates in TEMPLATES:
        return TEMPLATES[templates]
    path = Path(templates).expanduser()
    if not path.is_file():
        known = f"a set is {', '.join(TEMPLATES)}; else name a file, or write a text with {{}}"
        raise UsageError(
            f"'{templates}' is neither a set of templates nor a file",
            suggest(templates, TEMPLATES) or known,
        )
    try:
        text = path.read_text(encoding="utf-8")
        lines = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read templates from {path}", str(error)) from error
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise UsageError(f"{path} holds no list of templates", "write one a line, or a json list")
    return _checked([line.strip() for line in lines if line.strip()], str(path))


def _checked(templates: Sequence[str], where: str) -> tuple[str, ...]:
    for template in templates:
        rest = template.replace("{}", "", 1)
        if rest == template or "{}" in rest:
            raise UsageError(
                f"{where}: '{template}' has not just one {{}}, where the class name goes",
                "as in 'a video of {}.'",
            )
    if not templates:
        raise UsageError(f"{where}: there is no template", "one is needed, '{}' for the bare name")
    return tuple(templates)


def prompts(classes: Sequence[str], templates: str | Sequence[str] = "raw") -> list[list[str]]:
    """The texts to embed for each class: its cleaned name in every template.

    Args:
        classes: names as the data has them, see `clean`.
        templates: see `read_templates`.

    Returns:
        One list a class, one text a template.

    Raises:
        UsageError: templates that cannot be understood.
    """
    wanted = read_templates(templates)
    return [[template.replace("{}", clean(name)) for template in wanted] for name in classes]


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
    """The index of each name among the known ones, -1 for none.

    A name that is not there as it is written is looked for as `clean` writes both, whatever the
    case: ``brush_hair`` is ``Brush hair``.
    """
    exact = {name: i for i, name in enumerate(known)}
    # The first of several that are the same words.
    words = {clean(name).casefold(): i for i, name in reversed(list(enumerate(known)))}
    return [exact.get(name, words.get(clean(name).casefold(), -1)) for name in names]
