"""Files of arrays that an evaluation leaves, read with the same care whatever is in them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import DataError, UsageError

Contents = TypeVar("Contents")


def read_archive(
    path: str | Path,
    parse: Callable[[dict[str, np.ndarray]], Contents],
    *,
    name: str,
    form: str,
    holds: str,
    hint: str,
) -> Contents:
    """Read an npz file of an evaluation; no code in it is run.

    Args:
        path: the file, or a folder with it.
        parse: makes of the arrays what they stand for; its KeyError and ValueError are damage.
        name: of the file in a folder.
        form: the text that the array ``format`` has to have.
        holds: what is in it, a plural for messages.
        hint: the way out, for messages.

    Raises:
        UsageError: there is no such file.
        DataError: it is cut off, damaged, or another file.
    """
    file = Path(path)
    if file.is_dir():
        file = file / name
    if not file.is_file():
        raise UsageError(f"{file} does not exist", "name a folder of vidinit eval, or its file")
    try:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError
        with archive:
            arrays = {key: archive[key] for key in archive.files}
        if str(arrays.get("format")) != form:
            raise DataError(f"{file} holds no {holds} of vidinit eval", hint)
        return parse(arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        cut = zipfile.is_zipfile(file) or file.read_bytes()[:2] == b"PK"
        what = "is damaged or cut off" if cut else f"holds no {holds} of vidinit eval"
        raise DataError(f"{file} {what}", hint) from error
