from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vidinit.errors import DataError, UsageError
from vidinit.text import save_embeddings, text_embeddings

CLASSES = ["ApplyEyeMakeup", "brush_hair", "jump"]
TABLE = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
UNIT = TABLE / np.linalg.norm(TABLE, axis=1, keepdims=True)


def write(path, table=TABLE, names=None):
    kinds = {} if names is None else {"classes": names}
    if path.suffix == ".npz":
        np.savez(path, embeddings=table, **kinds)
    elif path.suffix == ".pt":
        torch.save({"embeddings": torch.tensor(table), **kinds}, path)
    elif names is None:
        save_file({"embeddings": torch.tensor(table)}, path)
    else:
        save_embeddings(path, torch.tensor(table), names)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_every_kind_of_file_is_read(tmp_path, suffix):
    plain = text_embeddings(CLASSES, file=write(tmp_path / f"a{suffix}"))
    np.testing.assert_allclose(plain.numpy(), UNIT, atol=1e-6)
    # By name, in the order asked for, as words; a class that is not asked for is left out.
    names = ["Apply Eye Makeup", "brush hair", "Jump"]
    named = text_embeddings(
        ["jump", "brush_hair"], file=write(tmp_path / f"b{suffix}", names=names)
    )
    np.testing.assert_allclose(named.numpy(), UNIT[[2, 1]], atol=1e-6)


def test_a_bare_table_will_do(tmp_path):
    torch.save(torch.tensor(TABLE), tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz", TABLE)
    for name in ("a.pt", "a.npz"):
        table = text_embeddings(CLASSES, file=tmp_path / name)
        np.testing.assert_allclose(table.numpy(), UNIT, atol=1e-6)


def test_what_is_saved_is_read(tmp_path):
    file = save_embeddings(tmp_path / "t.safetensors", torch.tensor(TABLE), CLASSES)
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]
    np.testing.assert_allclose(text_embeddings(CLASSES, file=file).numpy(), UNIT, atol=1e-6)
    with pytest.raises(UsageError, match="not those of 2 classes"):
        save_embeddings(file, torch.tensor(TABLE), CLASSES[:2])
    with pytest.raises(UsageError, match=r"no \.safetensors file"):
        save_embeddings(tmp_path / "t.npz", torch.tensor(TABLE), CLASSES)


def broken(value):
    table = TABLE.copy()
    table[1] = value
    return table


@pytest.mark.parametrize(
    ("table", "names", "told"),
    [
        (TABLE[:2], None, "has 2 text embeddings for 3 classes"),
        (TABLE[0], None, r"its table is \(5,\)"),
        (TABLE, ["a", "b"], "2 names for 3 rows"),
        (TABLE, ["ApplyEyeMakeup", "brush_hair", "jumps"], "'jump'; did you mean 'jumps'"),
        (broken(np.nan), None, "'brush_hair' is zero or no number"),
        (broken(np.inf), None, "'brush_hair' is zero or no number"),
        (broken(0), None, "'brush_hair' is zero or no number"),
    ],
)
def test_tables_that_do_not_fit_are_told(tmp_path, table, names, told):
    with pytest.raises(DataError, match=told):
        text_embeddings(CLASSES, file=write(tmp_path / "a.npz", table, names))


def test_files_that_are_none_are_told(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"nothing")
    np.savez(tmp_path / "two.npz", a=TABLE, b=TABLE)
    np.savez(tmp_path / "pickled.npz", embeddings=np.array([{}], dtype=object))
    for name in ("a.pt", "two.npz", "pickled.npz"):
        with pytest.raises(DataError, match="cannot read text embeddings"):
            text_embeddings(CLASSES, file=tmp_path / name)
    with pytest.raises(UsageError, match="no such file of text embeddings"):
        text_embeddings(CLASSES, file=tmp_path / "none.npz")
    with pytest.raises(UsageError, match=r"use \.npz"):
        text_embeddings(CLASSES, file=tmp_path / "a.csv")


def test_one_source_is_needed(tmp_path):
    for given in ({}, {"model": "ViT-B-16/openai", "file": write(tmp_path / "a.npz")}):
        with pytest.raises(UsageError, match="name one of the two"):
            text_embeddings(CLASSES, **given)
