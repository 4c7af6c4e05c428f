"""Names that people gave, as names of modules or folders, no two the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def distinct(names: Iterable[str], clean: Callable[[str], str], extra: str) -> dict[str, str]:
    """Cleaned names, each of them another one, by name.

    A name that is clean already keeps itself; of several others that would become the same, all
    but the first have ``extra`` behind them until they differ. So what a name becomes depends on
    the other names only where it has to, and what earlier versions wrote is found again.
    """
    order = list(dict.fromkeys(names))
    found: dict[str, str] = {}
    for name in sorted(order, key=lambda name: clean(name) != name):
        own = clean(name)
        while own in found.values():
            own += extra
        found[name] = own
    return {name: found[name] for name in order}


def folder_names(names: Iterable[str]) -> dict[str, str]:
    """Names of folders beside one another, by name; only what no folder may be called changes."""

    def clean(name: str) -> str:
        return "_" * len(name) if name in (".", "..") else name.replace("/", "_")

    return distinct(names, clean, "_")
