"""Files of the Hugging Face hub, with one clear error where it cannot be reached.

``hf-hub:USER/NAME`` is a repository, ``hf-hub:USER/NAME@REVISION`` one state of it, and
``hf-hub:USER/NAME/FILE`` a file in it. Where there is no network, files are taken from the local
cache of huggingface_hub.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any
from urllib.parse import urlsplit

from ...errors import UsageError, VidinitError

PATIENCE = 5.0  # seconds to wait for the hub's server
PREFIXES = ("hf-hub:", "hf_hub:")  # timm takes both
MODEL_FILES = ("model.yaml", "model.safetensors")
CHECKPOINTS = ("model.safetensors", "pytorch_model.bin")

_REF = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+)|/(?P<file>[\w./ -]+))?", re.ASCII
)


@dataclass(frozen=True)
class HubRef:
    """A reference to a repository of the hub, or to a file in it.

    Attributes:
        repo: ``USER/NAME``.
        revision: branch, tag or commit; None for the newest state.
        file: path in the repository, or None.
    """

    repo: str
    revision: str | None = None
    file: str | None = None


def is_hub(ref: object) -> bool:
    """True for a model or source that refers to the hub."""
    return str(ref).startswith(PREFIXES)


def parse_ref(ref: str) -> HubRef:
    """``hf-hub:USER/NAME``, with ``@REVISION`` or ``/FILE`` behind it, in its parts.

    Raises:
        UsageError: for another form.
    """
    match = _REF.fullmatch(ref.partition(":")[2])
    if match is None:
        prefix = ref.partition(":")[0]
        raise UsageError(f"'{ref}' is no repository of the hub", f"write {prefix}:USER/NAME")
    return HubRef(match["repo"], match["revision"], match["file"])


def repo_name(name: str) -> str:
    """``USER/NAME`` of a repository to write, with or without ``hf-hub:`` before it.

    Raises:
        UsageError: for another form.
    """
    hub_ref = parse_ref(name if is_hub(name) else f"{PREFIXES[0]}{name}")
    if hub_ref.file or hub_ref.revision:
        raise UsageError(f"'{name}' is no repository", "write USER/NAME")
    return hub_ref.repo


def forget() -> None:
    """Ask the hub again: what was found there is no longer so."""
    fetched.cache_clear()


def hub_folder(ref: str) -> Path:
    """The local copy of a model folder on the hub: one commit's model.yaml and model.safetensors.

    Raises:
        UsageError: for a malformed reference, and a repository that is no model folder.
        VidinitError: when it cannot be fetched.
    """
    hub_ref = parse_ref(ref)
    found = None if hub_ref.file else fetched(hub_ref.repo, MODEL_FILES[0], hub_ref.revision)
    # The rest is of the same commit, whatever is pushed meanwhile.
    rest = found is not None and [
        fetched(hub_ref.repo, name, found.parent.name) for name in MODEL_FILES[1:]
    ]
    if found is None or not rest or None in rest:
        raise UsageError(
            f"{ref} is no model folder: it has no {' with '.join(MODEL_FILES)}",
            "convert takes image networks and video checkpoints of the hub as SOURCE",
        )
    return found.parent


def hub_checkpoint(ref: str) -> Path | None:
    """The file of weights meant by a reference; None for an image network of timm's.

    Raises:
        UsageError: for a malformed reference, and a repository that holds no such file.
        VidinitError: when it cannot be fetched.
    """
    hub_ref = parse_ref(ref)
    if hub_ref.file is not None:
        return _require_file(ref, fetched(hub_ref.repo, hub_ref.file, hub_ref.revision))
    config = fetched(hub_ref.repo, "config.json", hub_ref.revision)
    if config is not None and "architecture" in _read_json(config):
        return None
    if fetched(hub_ref.repo, MODEL_FILES[0], hub_ref.revision) is not None:
        raise UsageError(
            f"{ref} is a video model already", "give it as MODEL to finetune, eval or export"
        )
    if config is not None:  # of transformers: its pixels are in a file beside it
        fetched(hub_ref.repo, "preprocessor_config.json", hub_ref.revision)
    found = (fetched(hub_ref.repo, name, hub_ref.revision) for name in CHECKPOINTS)
    return _require_file(ref, next((file for file in found if file is not None), None))


def _require_file(ref: str, file: Path | None) -> Path:
    if file is None:
        raise UsageError(
            f"{ref} has no such weights", "name the file: hf-hub:USER/NAME/checkpoint.pth"
        )
    return file


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@functools.cache
def fetched(repo: str, name: str, revision: str | None) -> Path | None:
    """A file of a repository, from the cache or the network; None where it has no such file.

    Asked for once in a process, so that a name means the same weights to all that look at it.

    Raises:
        VidinitError: when the hub is out of reach, or there is no such repository or revision.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    named = f"{repo}@{revision}" if revision else repo
    try:
        with quiet_hub():
            return Path(hf_hub_download(repo, name, revision=revision))
    except LocalEntryNotFoundError as error:  # not the hub's answer: nobody could be asked
        raise VidinitError(
            f"could not get {name} of '{named}' from the hub: it is out of reach, and the file is "
            "not in the local cache",
            "check the network, HF_ENDPOINT and HF_HUB_OFFLINE",
        ) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # hub clients raise many unrelated kinds
        raise VidinitError(
            f"could not get '{named}' from the hub",
            f"check the name; a private one needs `hf auth login` ({reason_of(error)})",
        ) from error


def reason_of(error: Exception) -> str:
    """The message of a hub client's error, in one line."""
    return shorten(str(error), 200, placeholder=" ...") or type(error).__name__


def reachable(url: str) -> bool:
    """True where the server of a URL takes connections, and behind a proxy, where none can tell."""
    if urllib.request.getproxies():
        return True
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), PATIENCE):
            return True
    except OSError:
        return False


def where_at_hand(repo: str) -> str:
    """Where the weights of a repository can be had: the local cache, the hub, or empty for nowhere.

    Nothing is fetched.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(repo, name), str) for name in CHECKPOINTS):
        return "the local cache"
    if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
        return ""
    return "the hub"


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """The hub client without its warnings, and set offline at once when there is no network.

    Left alone it retries for the better part of a minute, with a line for each attempt.
    """
    from huggingface_hub import constants

    logger = logging.getLogger("huggingface_hub")
    level, offline = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.ERROR)
    constants.HF_HUB_OFFLINE = offline or not reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        logger.setLevel(level)
        constants.HF_HUB_OFFLINE = offline


def pretrained(timm: Any, name: str, ways: Sequence[str]) -> Any:
    """A timm model with the hub's weights, from the local cache or the network.

    Args:
        timm: the module.
        name: timm name, ``hf-hub:`` or ``local-dir:`` reference.
        ways: what the user can do without the hub, for the message.

    Raises:
        VidinitError: when the weights cannot be had, with the ways to go on.
    """
    try:
        with quiet_hub():
            return timm.create_model(name, pretrained=True)
    except Exception as error:  # hub clients raise many unrelated kinds
        raise VidinitError(
            f"could not get the weights of '{name}' from the hub",
            f"{', or '.join(ways)} (the hub client says: {reason_of(error)})",
        ) from error
