"""Versions of the packages that vidinit asks for, as they say themselves; none is imported."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from ..extras import install_extra
from ..version import __version__
from .finding import Finding

TESTED = (3, 10), (3, 13)
"""The first and the last Python that vidinit is tested with."""

EXTRAS = {
    "demo": "`vidinit demo`: footage and an image model",
    "clip": "text towers, for zero-shot and text heads",
    "transformers": "video encoders of transformers as frozen trunks",
    "onnx": "`vidinit export` to ONNX",
    "flow": "optical flow by DIS",
    "sim": "the rendered scenes of two benchmarks",
    "tensorboard": "train.trackers=['tensorboard']",
    "wandb": "train.trackers=['wandb']",
    "torchcodec": "data.reader=torchcodec",
}
"""The purpose of each extra; `test` and `dev` are for those who work on vidinit."""

_DEVELOPERS = ("test", "dev")
_TRIED = ("accelerate", "av", "decord", "timm", "torch", "torchvision")  # `trials` says if missing


def packages() -> Iterator[Finding]:
    """vidinit, Python, and whether each required package is there in a version that will do."""
    yield Finding("vidinit", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    yield _python(sys.version_info[:2])
    try:
        wanted = _required()
    except PackageNotFoundError:
        yield Finding(
            "packages",
            "warn",
            "this copy of vidinit is not installed, so what it requires is not known",
            "run `pip install -e .` in its folder",
        )
        return
    found = {need.name: installed(need.name) for need in wanted}
    yield from (complaint for need in wanted if (complaint := _complaint(need, found[need.name])))
    shown = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    yield Finding("packages", "ok", shown)


def versions() -> dict[str, str | None]:
    """The version of each required and optional package that is meant for this machine."""
    names = ["vidinit"]
    try:
        names += [need.name for need in _required()]
        names += [need.name for extra in EXTRAS for need in _of_extra(extra)]
    except PackageNotFoundError:
        names += ["torch", "torchvision", "timm", "accelerate", "av", "decord"]
    own = {"vidinit": __version__, "python": platform.python_version()}
    return {name: installed(name) for name in names} | own


def extras() -> Iterator[Finding]:
    """The optional parts that are there, and how to get the others."""
    try:
        known = metadata("vidinit").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return
    for extra in known:
        if extra in _DEVELOPERS:
            continue
        needs = _of_extra(extra)
        missing = [need.name for need in needs if not _satisfied(need)]
        check, purpose = f"extra {extra}", EXTRAS[extra]
        if not needs:
            yield Finding(check, "none", f"{purpose}; not for this Python or machine")
        elif missing:
            found = f"{purpose}; missing: {', '.join(missing)}"
            yield Finding(check, "none", found, install_extra(extra))
        else:
            found = ", ".join(f"{need.name} {installed(need.name)}" for need in needs)
            yield Finding(check, "ok", f"{purpose}: {found}")


def installed(name: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def unmatched_pair() -> str:
    """The wish of torchvision that the installed torch does not meet; empty where they match."""
    torch, torchvision = installed("torch"), installed("torchvision")
    if torch is None or torchvision is None:
        return ""
    try:
        wishes = [Requirement(text) for text in requires("torchvision") or []]
        plain = Version(torch).base_version  # +cpu and the like are no part of what is asked for
    except (InvalidRequirement, InvalidVersion):
        return ""
    for wish in wishes:
        if wish.name == "torch" and not wish.specifier.contains(plain, prereleases=True):
            return f"torchvision {torchvision} asks for torch{wish.specifier}, not {torch}"
    return ""


def _python(found: tuple[int, ...]) -> Finding:
    text = f"{platform.python_version()}, {platform.platform(terse=True)}"
    first, last = (".".join(map(str, one)) for one in TESTED)
    if TESTED[0] <= found <= TESTED[1]:
        return Finding("Python", "ok", text)
    return Finding("Python", "warn", text, f"vidinit is tested with {first} to {last}")


def _required() -> list[Requirement]:
    """Requirements on this Python and machine without any extra."""
    needs = map(Requirement, requires("vidinit") or [])
    return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def _of_extra(extra: str) -> list[Requirement]:
    needs = map(Requirement, requires("vidinit") or [])
    return [
        need
        for need in needs
        if need.marker is not None
        and need.marker.evaluate({"extra": extra})
        and not need.marker.evaluate({"extra": ""})
    ]


def _satisfied(need: Requirement) -> bool:
    found = installed(need.name)
    return found is not None and need.specifier.contains(found, prereleases=True)


def _complaint(need: Requirement, found: str | None) -> Finding | None:
    """The fault of a required package, if it has one."""
    if _satisfied(need) or (found is None and need.name in _TRIED):
        return None
    check, advice = f"package {need.name}", f"pip install '{need.name}{need.specifier}'"
    if found is None:
        return Finding(check, "fail", "not installed", advice)
    return Finding(check, "warn", f"{found}, but vidinit asks for {need.specifier}", advice)
