"""The Typer application, and the one place where errors are rendered."""

from __future__ import annotations

import errno
import functools
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

from vidinit import __version__
from vidinit.errors import Interrupted, VidinitError, escaped
from vidinit.pipelines.registry import COMMANDS
from vidinit.processes import in_group, is_main_process, keep_freed_memory, wait_for_first_error

from .derived import plain_command

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

P = ParamSpec("P")
R = TypeVar("R")


def show_error(text: str, *, alone: bool = False) -> None:
    """One line on stderr, in red on a terminal. In a group the first process speaks for all.

    ``alone`` lets any process speak: one that failed, and maybe as the only one.
    """
    if is_main_process() or alone:
        with suppress(OSError):  # of a terminal that was closed; the exit code is still told
            typer.secho(f"error: {escaped(text)}", err=True, fg=typer.colors.RED)


class Group(TyperGroup):
    """A Typer group whose usage errors are one line too."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; exits unless ``standalone_mode`` is off."""

        def run() -> Any:
            return super(Group, self).main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )

        if not standalone_mode:
            return run()
        try:
            code = run()
        except typer.Abort:
            sys.exit(130)
        except Exception as error:
            message = getattr(error, "format_message", None)  # Click's usage errors have it
            if message is None:
                raise
            context = getattr(error, "ctx", None)
            where = context.command_path if context is not None else "vidinit"
            if text := " ".join(message().split()).rstrip("."):  # of several lines, some of them
                show_error(f"{_better(text, error, where)}; see `{where} --help`")
            elif context is not None:
                typer.echo(context.get_help())
            sys.exit(getattr(error, "exit_code", 2))
        sys.exit(code if isinstance(code, int) else 0)


_OTHER_COMMANDS = {
    "finetune": "train fine-tune fine_tune tune",
    "eval": "evaluate test validate val score",
    "predict": "infer inference classify run",
    "convert": "inflate init initialize",
    "distill": "distillation pretrain",
    "profile": "benchmark flops speed",
    "data": "dataset check prepare",
    "doctor": "info env",
    "list": "models ls",
}
"""Commands, and what others call them."""


def _better(text: str, error: Exception, where: str) -> str:
    """A usage error of Click with the command or the setting that was meant, where that is known.

    Args:
        text: its message in one line.
        error: itself.
        where: the command, as ``vidinit finetune``.
    """
    option = getattr(error, "option_name", None)
    command = where.removeprefix("vidinit ")
    if option is not None and command in COMMANDS and COMMANDS[command].config:
        from vidinit.config.build import known_keys, meant_keys
        from vidinit.pipelines.registry import config_class

        meant = meant_keys(option.lstrip("-"), list(known_keys(config_class(command))))
        if meant:
            return f"{text.partition(' (Possible')[0]} (a setting: write {meant[0]}=VALUE)"
    missing = re.match(r"No such command '([^']+)'", text)
    if missing is not None and where == "vidinit":
        for name, words in _OTHER_COMMANDS.items():
            if missing[1].lower() in words.split():
                return f"{missing[0]}. Did you mean '{name}'?"
    return text


def handled(command: Callable[P, R], *, keeps_memory: bool = False) -> Callable[P, R]:
    """Render a command's errors as one line and its exit code; ``--debug`` shows where from.

    ``keeps_memory`` is for commands that run many steps: the process is theirs, so they may set its
    allocator, which a library function must not.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from vidinit.config.layers import COMMAND_LINE, called_from
        from vidinit.console import escape_warnings

        escape_warnings()
        if isinstance(sys.stdout, io.TextIOWrapper):  # stderr is so by itself
            sys.stdout.reconfigure(errors="backslashreplace")  # letters that it has no code for

        if keeps_memory:
            keep_freed_memory()
        try:
            with called_from(COMMAND_LINE):
                return command(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            show_error("interrupted")
            raise typer.Exit(130) from None
        except VidinitError as error:
            if kwargs.get("debug"):
                _show_traceback()
            if not isinstance(error, Interrupted):  # which all processes are
                wait_for_first_error(to_main=True)
            show_error(str(error), alone=not isinstance(error, Interrupted))
            _leave(error.exit_code)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _is_unread():
                # What Python still has to write when it ends would be an error again.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                _leave(141)  # as a program does that is told so by a signal
            if kwargs.get("debug"):
                _show_traceback()
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                place = "" if error.filename is None else f" {error.filename}"
                show_error(f"cannot write{place} ({error.strerror}); make room", alone=True)
                _leave(1)
            wait_for_first_error()  # the end of another process may be all that went wrong here
            first = (str(error).strip().splitlines() or [""])[0]
            show_error(
                f"unexpected {type(error).__name__}: {first}; this is a fault of vidinit or of the "
                "machine, --debug shows where",
                alone=True,
            )
            _leave(1)

    return wrapped


def _show_traceback() -> None:
    for line in traceback.format_exc().splitlines():
        typer.echo(escaped(line), err=True)


def _is_unread() -> bool:
    """True where those who read what is printed have closed their end, as ``head`` does.

    It is asked of the pipe, and nothing is written. The broken pipe may also be one to a process of
    ours, which is an error like others.
    """
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # errors are told unasked
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no poll on this system, or no file
        return False


def _leave(code: int) -> NoReturn:
    """End the command. In a group at once: the others may wait for this process without end."""
    if in_group():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise typer.Exit(code) from None


def _examples(*lines: str) -> str:
    """The end of a help page."""
    return "\n\n".join(f"[dim]$[/] {' '.join(line.split())}" for line in lines)


app = typer.Typer(
    name="vidinit",
    cls=Group,
    no_args_is_help=True,
    epilog=_examples("vidinit demo", "vidinit convert tf_efficientnet_lite0 --to s3d"),
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"vidinit {__version__}")
        raise typer.Exit()


@app.callback()
def main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Start video recognition models from image models."""


def register() -> None:
    """Add the commands of the registry: those with a file here, others by `plain_command`."""
    from . import (
        convert,
        cotrain,
        data,
        demo,
        distill,
        doctor,
        evaluate,
        export,
        finetune,
        fit,
        listing,
        predict,
        preset,
        profile,
    )

    with_files: dict[str, Callable[..., None]] = {
        "fit": fit.fit,
        "demo": demo.demo,
        "doctor": doctor.doctor,
        "convert": convert.convert,
        "distill": distill.distill,
        "cotrain": cotrain.cotrain,
        "finetune": finetune.finetune,
        "eval": evaluate.evaluate,
        "predict": predict.predict,
        "profile": profile.profile,
        "list": listing.list_names,
        "export": export.export,
    }
    for name, entry in COMMANDS.items():
        if name not in ("data", "preset"):
            _add(app, with_files.get(name) or plain_command(name), name, entry.panel)
    _add_group(
        "data",
        "Check and prepare video data.",
        {"check": data.check, "prepare": data.prepare},
        examples=("vidinit data check videos/", "vidinit data prepare videos/ videos-256/"),
    )
    _add_group(
        "preset",
        "The papers' recipes.",
        {"list": preset.list_all, "show": preset.show, "copy": preset.copy, "check": preset.check},
        examples=("vidinit preset list", "vidinit preset show sts-r3d50_k400"),
    )


def _add_group(
    name: str,
    text: str,
    commands: Mapping[str, Callable[..., None]],
    *,
    examples: Sequence[str],
) -> None:
    """Add a command of commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
    for own, command in commands.items():
        _add(group, command, own)
    panel = COMMANDS[name].panel
    app.add_typer(group, name=name, help=text, epilog=_examples(*examples), rich_help_panel=panel)


def _add(
    to: typer.Typer, command: Callable[..., None], name: str, panel: str | None = None
) -> None:
    """Add a command; its docstring is its help, and what stands behind Examples its epilog."""
    text, _, examples = (command.__doc__ or "").partition("Examples:")
    epilog = _examples(*filter(str.strip, examples.splitlines()))
    ready = handled(command, keeps_memory=name in COMMANDS and COMMANDS[name].steps)
    to.command(name, help=text.strip(), epilog=epilog, rich_help_panel=panel)(ready)


register()
