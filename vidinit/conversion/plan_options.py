"""Options of plans and families, as `convert` takes them: read and checked before any weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from ..errors import UsageError
from ..zoo.build import check_backbone, check_options, create_model, maker_of
from ..zoo.images.hub import is_hub
from ..zoo.images.torchvision_models import GOOGLENET, is_torchvision
from ..zoo.names import ALIASES, ZOO, Entry, find_entry, find_target, parse_plan
from .sources import is_file


def parse_options(
    texts: Sequence[str], function: Callable[..., Any] | None = None
) -> dict[str, Any]:
    """``KEY=VALUE`` texts as keywords, the values read as YAML.

    Args:
        texts: of ``--option``.
        function: that takes them beside keywords of its own, which have flags and are refused.

    Raises:
        UsageError: for a text of another form, and a key that stands twice.
    """
    own = {} if function is None else inspect.signature(function).parameters
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key.isidentifier():
            raise UsageError(f"--option {text} is no option", "write --option KEY=VALUE")
        if key in own:
            flag = f"--{key.replace('_', '-')}"
            raise UsageError(f"--option {text}: {key} is none of a plan", f"{flag} sets it")
        if key in found:
            raise UsageError(f"--option {key} is given twice", "give it once")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(
                f"--option {text} cannot be read", "quote the value for YAML"
            ) from error
        # YAML 1.1 reads -1:2 as a number to the base of 60, which nobody means.
        found[key] = value if isinstance(read, (int, float)) and ":" in value else read
    return found


def named_options(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Options of a zoo name from ``KEY=VALUE`` texts, checked, with values of the right types.

    Raises:
        UsageError: unknown options, with a suggestion, and wrong values.
    """
    options = _typed(name, find_entry(name), parse_options(texts))
    if options:
        with torch.device("meta"):
            create_model(name, num_classes=1, **options)
    return options


def checked_options(source: str, to: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options against the model they are for, and give their values the right types.

    Where SOURCE tells its architecture, the model is built without memory, so that its own checks
    are made, too.

    Args:
        source: SOURCE of the conversion; a file tells its architecture only when it is read.
        to: its target.
        options: by name.

    Raises:
        UsageError: unknown options, with a suggestion, wrong values, and an unknown target.
    """
    known_arch = not (is_file(source) or is_hub(source) or is_torchvision(source))
    # `dist-b16` is a model of the zoo, though it looks like a plan on a network.
    backbone = "" if to in (*ZOO, *ALIASES) else (parse_plan(to) or ("", ""))[1]
    if known_arch:
        archs = [source.split(".")[0]]
    elif backbone:
        check_backbone(to, backbone)
        archs = [backbone]
    else:
        archs = ["", GOOGLENET]
    if known_arch and "network" in options:
        raise UsageError(
            f"--option network: '{source}' has all the sizes of its network",
            "it is for video files, whose keys do not tell them",
        )
    problems = []
    for arch in archs:
        name, entry = find_target(to, arch)
        try:
            checked = _typed(name if known_arch else to, entry, options)
        except UsageError as error:
            problems.append(error)
            continue
        if known_arch and options:
            with torch.device("meta"):
                create_model(name, num_classes=1, **checked)
        return checked
    raise problems[0]


def _typed(name: str, entry: Entry, options: Mapping[str, Any]) -> dict[str, Any]:
    hints = {"network": dict[str, Any]} if entry.plan is not None else {}
    check_options(name, entry, [option for option in options if option not in hints])
    hints |= get_type_hints(maker_of(entry))
    return {key: _value(name, key, value, hints[key]) for key, value in options.items()}


def _value(name: str, key: str, value: Any, hint: Any) -> Any:
    try:
        read = TypeAdapter(hint).validate_python(value)
        if isinstance(read, float) and not math.isfinite(read):
            raise UsageError(f"option '{key}' of '{name}' cannot be {value!r}", "give a number")
        return read
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UsageError(
            f"option '{key}' of '{name}' cannot be {value!r}", reason.lower()
        ) from error
