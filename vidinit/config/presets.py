"""The shipped recipes: which there are, what their headers say, and copies of them to edit.

A preset is one flat YAML file, ``presets/<command>/<target>_<data>.yaml``; its path is its name.
What it sets is resolved in `vidinit.config.build`.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UsageError, suggest

_FIELD = re.compile(r"(Source|Needs|First|Command|Score|Expect):\s*(.*)")


@dataclass(frozen=True)
class Header:
    """The comment at the top of a preset.

    Attributes:
        title: what it is.
        source: what its values are taken from: a repository and its file, or a paper.
        needs: machines and data.
        first: the command to run before, or empty.
        command: the command that uses it.
        score: the command that scores the result as it was published, or empty.
        expect: the published figure, up to the first semicolon; then what is known about it.
        notes: what else there is to know.
    """

    title: str
    source: str = ""
    needs: str = ""
    first: str = ""
    command: str = ""
    score: str = ""
    expect: str = ""
    notes: str = ""

    @property
    def published(self) -> str:
        """The published figure alone."""
        return self.expect.partition(";")[0].rstrip(".")

    def as_dict(self) -> dict[str, str]:
        """All of it, by name."""
        return asdict(self)


def preset_folder() -> Path:
    """The folder of the shipped recipes.

    Raises:
        UsageError: when it was not installed.
    """
    spec = importlib.util.find_spec("vidinit.presets")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    if not places:
        raise UsageError("the presets are not installed", "reinstall vidinit")
    return Path(places[0])


def list_presets(pattern: str = "*") -> list[str]:
    """Names ``<command>/<target>_<data>`` that match a shell pattern, with or without command."""
    root = preset_folder()
    names = sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.glob("*/*.yaml"))
    return [
        name
        for name in names
        if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name.partition("/")[2], pattern)
    ]


def find_preset(name: str, command: str | None = None) -> str:
    """The full name of a preset.

    Args:
        name: with or without the command.
        command: whose presets are meant; None for all.

    Raises:
        UsageError: for a name that is unknown, of another command, or of several.
    """
    known = list_presets()
    called = [full for full in known if name in (full, full.partition("/")[2])]
    meant = [full for full in called if command in (None, full.partition("/")[0])]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UsageError(f"several presets are called '{name}'", f"name {' or '.join(meant)}")
    if called:
        raise UsageError(
            f"preset '{name}' is for `vidinit {called[0].partition('/')[0]}`, not for "
            f"`vidinit {command}`",
            f"`vidinit preset list '{command}/*'` shows those that are",
        )
    own = [full for full in known if command in (None, full.partition("/")[0])]
    full = name if command is None or name.startswith(f"{command}/") else f"{command}/{name}"
    hint = suggest(full, own) or suggest(name, own) or "`vidinit preset list` shows all"
    if ends := [one for one in own if one.endswith(f"_{name}")]:
        hint = f"name {' or '.join(ends[:4])}"
    raise UsageError(f"unknown preset '{name}'", hint)


def preset_path(full: str) -> Path:
    """The file of a preset, by its full name."""
    return preset_folder() / f"{full}.yaml"


def read_header(text: str) -> Header:
    """The header of a preset's text: a title, fields with indented continuations, and notes."""
    found: dict[str, list[str]] = {"title": [], "notes": []}
    current = "title"
    for line in _parts(text)[0].splitlines():
        content = line[1:].removeprefix(" ")
        field = _FIELD.match(content)
        if field is not None:
            current = field[1].lower()
            found[current] = [field[2]]
        elif not content.strip() or (current not in ("title", "notes") and content[0] != " "):
            current = "notes"
            found["notes"].append(content)
        else:
            found[current].append(content)
    texts = {key: " ".join(part.strip() for part in lines) for key, lines in found.items()}
    return Header(**{key: " ".join(text.replace("\\", " ").split()) for key, text in texts.items()})


def copy_preset(name: str, file: Path, *, force: bool = False) -> str:
    """Write a preset, header included, to a file that ``--config`` takes; return its full name.

    Raises:
        UsageError: for an unknown preset, or a file that is there already or cannot be written.
    """
    full = find_preset(name)
    header, body = _parts(preset_path(full).read_text(encoding="utf-8"))
    if file.is_dir():
        raise UsageError(f"{file} is a folder", "name a file")
    if file.exists() and not force:
        raise UsageError(f"{file} exists already", "pass --force to replace it")
    try:
        file.write_text(f"{header}command: {full.partition('/')[0]}\n{body}", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", "name another file"
        ) from error
    return full


def _parts(text: str) -> tuple[str, str]:
    """The comment at the top, and the rest."""
    lines = text.splitlines(keepends=True)
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:end]), "".join(lines[end:])
