"""Commands made from the functions of the library: a keyword is an option, its text the help.

The signature is read from the source and not imported, as the libraries behind it take seconds and
help must not wait for them.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from vidinit.pipelines.registry import COMMANDS, part

from . import completion
from . import options as opt
from .options import INPUT, OUTPUT, TRAINING

# Options that mean the same in all commands: where help shows them.
PANELS = {
    INPUT: "data val root modality max_bad val_fraction clips crops class_names split weights "
    "videos teacher source sources images",
    TRAINING: "init_from preset config epochs lr batch_size seed device precision processes",
    OUTPUT: "out resume overwrite dry_run",
}
COMPLETIONS: dict[str, Callable[..., list[str]]] = {
    "model": completion.models,
    "models": completion.models,
    "student": completion.models,
    "preset": completion.presets,
    "teacher": completion.teachers,
    "to": completion.targets,
    "device": completion.words("auto", "cpu", "cuda", "mps"),
    "precision": completion.words("auto", "fp32", "bf16", "fp16"),
}
ARGUMENTS = {"model": "MODEL", "overrides": "[SECTION.KEY=VALUE]..."}
"""Keywords that are words of the line, and how they are shown."""
SETTINGS = "Settings, e.g. data.workers=4; see docs/settings.md."


def command(
    name: str,
    *,
    panels: Mapping[str, str] | None = None,
    arguments: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    kinds: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: what it decorates becomes a command with the options of a library's function.

    The decorated function takes the options as a dict, which are the keywords of the library's
    function, and then its own ones, with Typer's annotations. Its docstring has the examples.

    Args:
        name: of the command in the registry, which says which function is meant; or that function,
            as ``module:name``.
        panels: heading to the names of options, beside `PANELS`.
        arguments: keywords that are words of the line, in their order, and how they are shown;
            default: `ARGUMENTS`.
        names: keyword to the words of its option, where they differ.
        kinds: keyword to the type of its option, where the annotation does not tell.
        texts: keyword to its help, where the line has another default than the function.
        hidden: keywords that the line does not offer.
    """

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        function = read_function(COMMANDS[name].function if name in COMMANDS else name)
        panel_of = {
            option: panel
            for shown in (PANELS, panels or {})
            for panel, options in shown.items()
            for option in options.split()
        }
        words = ARGUMENTS if arguments is None else arguments
        shown = {
            keyword: words.get(keyword) or f"--{_words(keyword, names)[0]}"
            for keyword in function.keywords
        }
        parameters = [
            _parameter(
                keyword,
                function,
                kind=(kinds or {}).get(keyword),
                text=(texts or {}).get(keyword),
                panel=panel_of.get(keyword),
                metavar=words.get(keyword),
                options=_words(keyword, names),
                shown=shown,
            )
            for keyword in function.keywords
            if keyword not in hidden
        ]
        parameters.sort(key=lambda one: list(words).index(one.name) if one.name in words else 99)
        keys = [one.name for one in parameters]

        def run(**options: Any) -> None:
            keywords = {key: options.pop(key) for key in keys}
            if "model" in keywords and "overrides" in keywords:
                keywords["model"], keywords["overrides"] = split_model(
                    keywords["model"], keywords["overrides"]
                )
            elif "overrides" in keywords:
                keywords["overrides"] = keywords["overrides"] or ()
            options.pop("debug", None)
            body(keywords, **options)

        extra = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
        # Required words of the line come first, as Python wants them.
        ordered = sorted([*parameters, *extra], key=lambda one: one.default is not one.empty)
        run.__name__, run.__module__ = body.__name__, body.__module__
        examples = inspect.cleandoc(body.__doc__ or "").partition("Examples:")[2]
        run.__doc__ = f"{function.summary}\n\nExamples:{examples}"
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in ordered]
        )
        run.__annotations__ = {one.name: one.annotation for one in ordered}
        return run

    return decorate


def split_model(model: str | None, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """MODEL may be left out where a preset names it: the first word is then an override."""
    words = list(overrides or [])
    if model is not None and "=" in model:
        return None, [model, *words]
    return model, words


class Function:
    """A function of the library, as its source has it.

    Attributes:
        summary: first paragraph of its docstring.
        texts: what the docstring says of each argument.
        kinds: the names in each keyword's annotation, ``str``, ``Path``, ``Sequence`` and alike.
        defaults: of the keywords that have one.
    """

    def __init__(self, node: ast.FunctionDef) -> None:
        paragraphs = (ast.get_docstring(node) or "").split("\n\n")
        self.summary = " ".join(paragraphs[0].split())
        self.texts = _argument_texts(paragraphs)
        listed = [*node.args.args, *node.args.kwonlyargs]
        self.keywords = [one.arg for one in listed]
        self.kinds = {one.arg: _names_in(one.annotation) for one in listed}
        first = len(node.args.args) - len(node.args.defaults)
        values = zip(node.args.args[first:], node.args.defaults, strict=True)
        more = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        self.defaults = {one.arg: value for one, value in [*values, *more] if value is not None}


@cache
def read_function(path: str) -> Function:
    """The function ``module:name``, from its source."""
    module, _, name = path.partition(":")
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, path
    source = Path(spec.origin).read_text(encoding="utf-8")
    start = source.index(f"\ndef {name}(")
    end = source.index('"""', source.index('"""', start) + 3)  # of its docstring: no more is read
    node = ast.parse(source[start : end + 3]).body[0]
    assert isinstance(node, ast.FunctionDef)
    return Function(node)


def _argument_texts(paragraphs: Sequence[str]) -> dict[str, str]:
    """Argument to its text, from the paragraph of a docstring that begins with ``Args:``."""
    block = next((text for text in paragraphs if text.startswith("Args:")), "")
    texts: dict[str, str] = {}
    for entry in re.split(r"\n    (?=\w)", block)[1:]:
        names, _, text = entry.partition(":")
        for name in names.split(","):
            texts[name.strip()] = " ".join(text.split())
    return texts


def _text(keyword: str, function: Function, shown: Mapping[str, str]) -> str:
    """The help of an option, from the docstring.

    Args:
        keyword: which.
        function: whose docstring; ``as for `finetune` `` is looked up there.
        shown: what other keywords are called on the line.
    """
    if keyword == "overrides":
        return SETTINGS
    text = function.texts.get(keyword, "")
    as_for = re.match(r"as for `(\w+)`", text)
    if as_for is not None:
        command = {"evaluate": "eval"}.get(as_for[1], as_for[1])
        return _text(keyword, read_function(COMMANDS[command].function), shown)
    text = re.sub(r",? \((see )?`[\w.]+`\)", "", text)  # where the code is
    if re.match(r"[A-Za-z]\w*[ ,:;]", text):  # a quoted word stays as it is
        text = text[0].upper() + text[1:]
    text = re.sub(r"``(\w+)``", lambda word: shown.get(word[1], word[1]), text)
    # An opening bracket would be a style's name to rich.
    return re.sub(r"\[(?=[a-z#/@])", r"\\[", text.replace("`", ""))


def _names_in(annotation: ast.expr | None) -> set[str]:
    assert annotation is not None
    return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}


def _kind(keyword: str, names: set[str]) -> Any:
    """The type of an option, from the names in the annotation of its keyword."""
    if keyword in ("model", "student"):  # a name as well as a folder
        return str
    if "bool" in names:
        return bool
    if names & {"Places", "Sequence", "Mapping", "Overrides"}:
        if "int" in names:
            return str  # several numbers, apart by commas
        return list[Path] if names & {"Path", "Places"} and "Mapping" not in names else list[str]
    if "Path" in names:
        return Path
    return str if names & {"str", "Literal"} else float if "float" in names else int


def _parameter(
    keyword: str,
    function: Function,
    *,
    kind: Any,
    text: str | None,
    panel: str | None,
    metavar: str | None,
    options: Sequence[str],
    shown: Mapping[str, str],
) -> inspect.Parameter:
    """A keyword of the library's function as a parameter that Typer reads.

    Args:
        keyword: which.
        function: whose.
        kind: type of the parameter; default: from the annotation.
        text: its help; default: from the docstring.
        panel: heading of an option.
        metavar: of a word of the line; None for an option.
        options: words of an option, without dashes.
        shown: what keywords are called on the line.
    """
    kind = kind or _kind(keyword, function.kinds[keyword])
    text = text or _text(keyword, function, shown)
    is_required = keyword not in function.defaults
    default = None if is_required else _default(function.defaults[keyword])
    several = kind in (list[str], list[Path])
    complete = COMPLETIONS.get(keyword)
    if metavar is not None:
        info: Any = typer.Argument(metavar=metavar, help=text, autocompletion=complete)
    else:
        if several and "repeat" not in text:
            text = f"{text.rstrip('.')}; may be repeated."
        switch = kind is bool and default in (None, True)
        words = [f"--{word}/--no-{word}" if switch else f"--{word}" for word in options]
        info = typer.Option(*words, help=text, rich_help_panel=panel, autocompletion=complete)
    if several:
        default = None
    return inspect.Parameter(
        keyword,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if is_required else default,
        annotation=Annotated[kind if is_required or default is not None else kind | None, info],
    )


def _words(keyword: str, names: Mapping[str, str] | None) -> list[str]:
    """The words of a keyword's option, without dashes before them."""
    return (names or {}).get(keyword, keyword.replace("_", "-")).split()


def _default(value: ast.expr) -> Any:
    """A default's value; None for one that has a name, which the function itself knows."""
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None


def plain_command(name: str) -> Callable[..., None]:
    """The command of a function that this folder has no file for: its result is printed."""

    def body(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
        library = part(COMMANDS[name].function)
        result = library(**keywords)
        if COMMANDS[name].trains:
            opt.print_training(result, as_json=json, dry_run=keywords.get("dry_run", False))
        else:
            opt.print_json(result)

    return command(name)(body)
