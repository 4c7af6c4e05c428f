"""The tables of options and settings in the docs, made from the program itself.

``python -m tests.option_tables`` writes them into the pages again, between the lines
``<!-- options: COMMAND -->`` or ``<!-- settings -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.models import ArgumentInfo
from vidinit.commands import app

from vidinit import config
from vidinit.config.layers import flat
from vidinit.pipelines.registry import COMMANDS, config_class, config_classes
from vidinit.pipelines.shared import arguments

DOCS = Path(__file__).parents[1] / "docs"
MARKED = re.compile(r"(<!-- (options: [a-z ]+|settings) -->\n).*?(<!-- end -->)", flags=re.S)
WORDS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
KINDS = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`"}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def commands() -> dict[str, Callable[..., None]]:
    """Every command by its full name, as ``data check``."""
    found = {one.name: one.callback for one in app.registered_commands}
    for group in app.registered_groups:
        for one in group.typer_instance.registered_commands:
            found[f"{group.name} {one.name}"] = one.callback
    return found


def escaped(text: str) -> str:
    """A text as a cell of a table; what stands in backticks stays as it is."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([<*])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")


def option_table(name: str) -> str:
    """Arguments, then options by the groups of the help, of a command by its full name."""
    command, settings = commands()[name], effective_defaults(name)
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, list[str]] = {"Arguments": [], "Options": []}
    for key, parameter in inspect.signature(command).parameters.items():
        kind, info = get_args(hints[key])
        is_argument = isinstance(info, ArgumentInfo)
        group = "Arguments" if is_argument else info.rich_help_panel or "Options"
        shown = argument_name(key, info) if is_argument else option_name(key, kind, info)
        default = default_of(parameter.default, settings.get(key), info.help, is_argument)
        row = f"| `{shown}` | {default} | {escaped(info.help)} |"
        groups.setdefault(group, []).append(row)
    lines = ["| | default | |", "|---|---|---|"]
    for group, rows in groups.items():
        if rows:
            lines += [f"| **{group}** | | |", *rows]
    return "\n".join(lines) + "\n"


def the_name(value: ast.expr) -> str | None:
    """The one name in an expression, beside those of functions; None where there are more."""
    nodes = list(ast.walk(value))
    called = {one.func.id for one in nodes if isinstance(one, ast.Call) and hasattr(one.func, "id")}
    names = {one.id for one in nodes if isinstance(one, ast.Name)} - called
    return names.pop() if len(names) == 1 else None


def argument_name(name: str, info: Any) -> str:
    return info.metavar or name.upper()


def option_name(name: str, kind: Any, info: Any) -> str:
    """As it is written, with a word for its value: ``--data PATH``."""
    declared = [text for text in (info.default, *info.param_decls) if isinstance(text, str)]
    types = members(kind)
    inner = [get_args(one)[0] for one in types if get_origin(one) is list] or types
    shown = "`, `".join(declared or [f"--{name.replace('_', '-')}"])
    if bool in inner:
        return shown
    return f"{shown} {info.metavar or WORDS[inner[0]]}".replace("|", "\\|")


def default_of(value: Any, setting: Any, text: str, is_argument: bool) -> str:
    """An option's own default, that of the setting it stands for, or what its text says.

    Args:
        value: its own; None and False say nothing.
        setting: the default of the setting; None for none.
        text: the help.
        is_argument: whether it is a word of the line, which has no default.
    """
    if value is inspect.Parameter.empty:
        return "required"
    if value is not None and value is not False:
        return f"`{plain(value)}`"
    if setting not in (None, "", [], False):
        return f"`{plain(setting)}`"
    told = re.search(r"\bdefault:? ([^:;,.]*[^:;,. ])", text) or re.search(r"(\S+) \(default", text)
    if told is not None:
        return escaped(told[1])
    return "off" if value is False else "" if is_argument else "none"


def effective_defaults(command: str) -> dict[str, Any]:
    """Keyword of a command's function to the default of the setting that it stands for.

    Which setting that is stands in the function's module and in `pipelines.shared.arguments`, as
    entries ``"section.key": keyword`` of dicts.
    """
    known = COMMANDS.get(command)
    if known is None or not known.config:
        return {}
    usual = dict(flat(config_class(command).defaults()))
    found: dict[str, Any] = {}
    for module in (known.function.partition(":")[0], arguments.__name__):
        source = Path(importlib.import_module(module).__file__).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Dict):
                continue
            for key, value in zip(node.keys, node.values, strict=True):
                keyword = the_name(value)
                if isinstance(key, ast.Constant) and key.value in usual and keyword is not None:
                    found.setdefault(keyword, usual[key.value])
    return found


def plain(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(plain, value))}]"
    return str(value)


def members(kind: Any) -> list[Any]:
    """A type, or those of a union, but for None."""
    if get_origin(kind) in (Union, UnionType):
        return [one for part in get_args(kind) for one in members(part)]
    return [] if kind is NoneType else [kind]


def settings_tables() -> str:
    """Every section with all its settings, then what stands outside of sections."""
    parts = []
    for name, classes in sections().items():
        prefix = "" if name == "sources" else f"{name}."
        parts.append(f"## `{name}`")
        told: set[str] = set()
        for cls, users in classes.items():
            keys = [key for key in cls.model_fields if key not in told]
            told.update(keys)
            used = ", ".join(f"`{user}`" for user in users)
            parts.append(f"{cls.__doc__} For {used}.\n\n{settings_table(cls, prefix, keys)}")
    parts.append("## Outside of sections\n\nThese are keys of a file for `--config`, and flags.")
    for cls in (config.RunConfig, config.TrainRunConfig, *config_classes().values()):
        own = [key for key, _ in leaves(cls) if key in cls.__annotations__]
        if own:
            title = (cls.__doc__ or "").splitlines()[0]
            parts.append(f"{title}\n\n{settings_table(cls, '', own)}")
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def sections() -> dict[str, dict[type[BaseModel], list[str]]]:
    """Section to its classes, smaller ones first, and the commands that have them."""
    found: dict[str, dict[type[BaseModel], list[str]]] = {}
    for command, owner in config_classes().items():
        for name, info in owner.model_fields.items():
            for kind in (info.annotation, *get_args(info.annotation)):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    found.setdefault(name, {}).setdefault(kind, []).append(command)
    return {
        name: dict(sorted(classes.items(), key=lambda one: len(one[0].model_fields)))
        for name, classes in sorted(found.items())
    }


def leaves(cls: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields that are neither sections nor lists of them."""
    for name, info in cls.model_fields.items():
        kinds = [info.annotation, *get_args(info.annotation)]
        if not any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
            yield name, info


def settings_table(cls: type[BaseModel], prefix: str, keys: list[str]) -> str:
    texts = docstrings(cls)
    lines = ["| setting | values | default | |", "|---|---|---|---|"]
    for key in keys:
        info = cls.model_fields[key]
        default = "required" if info.is_required() else setting_default(info)
        values = " or ".join(map(values_of, members(info.annotation)))
        limits = bounds(info.metadata)
        lines.append(
            f"| `{prefix}{key}` | {values}{limits} | {default} | {escaped(texts.get(key, ''))} |"
        )
    return "\n".join(lines) + "\n"


def setting_default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    return "" if value is None or value == "" else f"`{plain(value)}`"


def values_of(kind: Any) -> str:
    """What a member of a field's type takes, in words."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        field = next(one for one in args[1:] if isinstance(one, FieldInfo))
        return values_of(args[0]) + bounds(field.metadata)
    if origin is Literal:
        return ", ".join(f"`{plain(value)}`" for value in args)
    if origin is list:
        return f"list of: {' or '.join(map(values_of, members(args[0])))}"
    if origin is tuple:
        return f"[{', '.join(KINDS[part] for part in args)}]"
    return KINDS[kind]


def bounds(metadata: list[Any]) -> str:
    found = [
        f"{sign} {getattr(one, name):g}"
        for one in metadata
        for name, sign in SIGNS.items()
        if hasattr(one, name)
    ]
    return f" {' and '.join(found)}" if found else ""


def docstrings(cls: type[BaseModel]) -> dict[str, str]:
    """The text under each field, of the class and those above it."""
    texts: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if not issubclass(one, BaseModel) or one is BaseModel:
            continue
        body = ast.parse(inspect.getsource(one)).body[0].body
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                texts[field.target.id] = inspect.cleandoc(text.value.value)
    return texts


def rewritten(text: str) -> str:
    """A page with its tables made anew."""

    def table(match: re.Match[str]) -> str:
        what = match[2].removeprefix("options: ")
        return (
            match[1] + (settings_tables() if what == "settings" else option_table(what)) + match[3]
        )

    return MARKED.sub(table, text)


def pages() -> list[Path]:
    """The pages that have tables."""
    return [page for page in sorted(DOCS.rglob("*.md")) if MARKED.search(page.read_text())]


if __name__ == "__main__":
    for page in pages():
        before = page.read_text()
        if (after := rewritten(before)) != before:
            page.write_text(after)
            sys.stdout.write(f"{page.relative_to(DOCS.parent)}\n")
