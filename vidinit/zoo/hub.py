"""Weights from timm's hub, with one clear error where it cannot be reached."""

from __future__ import annotations

import contextlib
import logging
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..errors import VidinitError

PATIENCE = 5.0  # seconds to wait for the hub's server


def reachable(url: str) -> bool:
    """Whether the server behind a URL takes connections; behind a proxy we do not know: yes."""
    if urllib.request.getproxies():
        return True
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), PATIENCE):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """The hub client without its warnings, and told at once when there is no network.

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
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise VidinitError(
            f"could not get the weights of '{name}' from the hub",
            f"{', or '.join(ways)} (the hub client says: {reason})",
        ) from error
