"""Names that people gave, as names of modules and folders."""

from __future__ import annotations

from torch import nn

from vidinit.pipelines.shared.heads import module_keys
from vidinit.pipelines.shared.names import distinct, folder_names


def test_names_stay_what_they_were_but_where_two_would_be_one():
    assert module_keys(["b.c", "d-e", "f"]) == {"b.c": "b-c", "d-e": "d-e", "f": "f"}
    keys = module_keys(["a.b", "a-b", "a.b.", "a-b-"])
    assert list(keys) == ["a.b", "a-b", "a.b.", "a-b-"]
    assert keys["a-b"] == "a-b" and keys["a-b-"] == "a-b-" and len(set(keys.values())) == 4


def test_names_that_modules_have_themselves_can_be_heads():
    names = ["train", "keys", "training", "train-", "type"]
    keys = module_keys(names)
    nn.ModuleDict({key: nn.Identity() for key in keys.values()})
    assert len(set(keys.values())) == len(names) and keys["train-"] == "train-"


def test_no_name_leaves_its_folder():
    assert folder_names(["a.b", "a-b", "a b"]) == {"a.b": "a.b", "a-b": "a-b", "a b": "a b"}
    assert folder_names(["..", "a/b", "a_b"]) == {"..": "__", "a/b": "a_b_", "a_b": "a_b"}


def test_the_order_decides_only_among_names_that_change():
    def shout(name: str) -> str:
        return name.upper()

    assert distinct(["a", "A"], shout, "!") == {"a": "A!", "A": "A"}
    assert distinct(["ab", "aB"], shout, "!") == {"ab": "AB", "aB": "AB!"}
