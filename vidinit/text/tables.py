"""Tables of text embeddings in files, made elsewhere or by `save_embeddings`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError, suggest
from ..files import written
from .templates import match

if TYPE_CHECKING:
    from torch import Tensor

KINDS = (".npz", ".safetensors", ".pt", ".pth")
TABLE, _NAMES = "embeddings", "classes"


def save_embeddings(file: str | Path, embeddings: Tensor, classes: Sequence[str]) -> Path:
    """Write a table of text embeddings, for machines without the text tower.

    Args:
        file: ``.safetensors``; replaced if it is there.
        embeddings: (K, J).
        classes: the K names, in order; they stand in the file's metadata as a json list.

    Raises:
        UsageError: another suffix, or another number of names than of rows.
    """
    from safetensors.torch import save

    path = Path(file)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path} is no .safetensors file", "name it so")
    if embeddings.dim() != 2 or len(embeddings) != len(classes):
        shape = tuple(embeddings.shape)
        raise UsageError(f"embeddings {shape} are not those of {len(classes)} classes")
    names = {_NAMES: json.dumps(list(classes), ensure_ascii=False)}
    with written(path, advice="make room, or name another file") as part:
        part.write_bytes(save({TABLE: embeddings.detach().cpu().contiguous()}, metadata=names))
    return path


def check_file(file: str | Path) -> Path:
    """The file, if it is there and of a kind that can be read.

    Raises:
        UsageError: it is not.
    """
    path = Path(file).expanduser()
    if path.suffix not in KINDS:
        raise UsageError(f"{path} is no file of text embeddings", f"use {', '.join(KINDS)}")
    if not path.is_file():
        raise UsageError(f"no such file of text embeddings: {path}", "check the path")
    return path


def read_embeddings(file: str | Path, classes: Sequence[str]) -> Tensor:
    """The embeddings of these classes from a file, L2-normalized, float32 (K, J).

    The file holds a table ``embeddings`` (N, J), or one table only, under any name, and it may hold
    its names, ``classes``: as an array of texts (.npz), a json list in the metadata (.safetensors),
    or a list (.pt). With names, rows are taken by `templates.match`; without, they are those of
    ``classes`` in order. Pickles are read with ``weights_only=True``, arrays without pickles.

    Raises:
        UsageError: no such file.
        DataError: no table, not one row a class, a class that is not in it, numbers that are not
            finite, or a row of zeros.
    """
    path = check_file(file)
    try:
        table, names = _read(path)
    except Exception as error:  # each reader raises kinds of its own
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"cannot read text embeddings from {path}",
            f"a table 'embeddings' (classes, numbers) is needed ({reason})",
        ) from error
    if names is None and len(table) != len(classes):
        raise DataError(
            f"{path} has {len(table)} text embeddings for {len(classes)} classes",
            "a file without class names has one for each class, in their order",
        )
    if names is not None:
        rows = match(classes, names)
        if -1 in rows:
            name = classes[rows.index(-1)]
            raise DataError(
                f"{path} has no text embedding of class '{name}'",
                suggest(name, names) or f"it has {len(names)} classes, '{names[0]}' first",
            )
        table = table[rows]
    lengths = table.norm(dim=1)
    if not bool(table.isfinite().all()) or not bool((lengths > 0).all()):
        bad = int((~table.isfinite().all(dim=1) | (lengths == 0)).nonzero()[0])
        raise DataError(f"{path}: the text embedding of '{classes[bad]}' is zero or no number")
    return table / lengths[:, None]


def _read(path: Path) -> tuple[Tensor, list[str] | None]:
    """The table, float32 (N, J), and its names."""
    import numpy as np
    import torch

    found: dict[str, Any]
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    elif path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as tensors:
            found = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
            metadata = tensors.metadata() or {}
        if _NAMES in metadata:
            found[_NAMES] = json.loads(metadata[_NAMES])
    else:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        found = dict(loaded) if isinstance(loaded, dict) else {TABLE: loaded}
    names = found.pop(_NAMES, None)
    if TABLE not in found and len(found) != 1:
        raise ValueError(f"it holds {', '.join(map(str, found)) or 'nothing'}")
    table = torch.as_tensor(found[TABLE] if TABLE in found else next(iter(found.values()))).float()
    if table.dim() != 2 or not table.numel():
        raise ValueError(f"its table is {tuple(table.shape)}")
    if names is None:
        return table, None
    listed = [str(name) for name in names]
    if len(listed) != len(table):
        raise ValueError(f"it has {len(listed)} names for {len(table)} rows")
    return table, listed
