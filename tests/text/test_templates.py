from __future__ import annotations

import json

import pytest

from vidinit.errors import UsageError
from vidinit.text import TEMPLATES, prompts


def test_the_raw_label_is_the_default():
    assert prompts(["ApplyEyeMakeup", "brush_hair"]) == [["Apply Eye Makeup"], ["brush hair"]]


@pytest.mark.parametrize("name", TEMPLATES)
def test_sets_have_one_place_for_the_name(name):
    texts = prompts(["brush_hair"], name)[0]
    assert len(set(texts)) == len(TEMPLATES[name])
    assert all(text.count("brush hair") == 1 and "{" not in text for text in texts)


def test_templates_come_from_a_file_a_text_or_a_list(tmp_path):
    (tmp_path / "mine.txt").write_text("a {} b\n\n{}\n")
    (tmp_path / "mine.json").write_text(json.dumps(["a {} b", "{}"]))
    want = [["a x b", "x"]]
    assert prompts(["x"], str(tmp_path / "mine.txt")) == want
    assert prompts(["x"], str(tmp_path / "mine.json")) == want
    assert prompts(["x"], ["a {} b", "{}"]) == want
    assert prompts(["x"], "a {} b") == [["a x b"]]


def test_a_name_with_braces_is_no_template():
    assert prompts(["set {}"], "a {}.") == [["a set {}."]]


@pytest.mark.parametrize(
    ("templates", "told"),
    [
        ("vidoe", "did you mean 'video'"),
        ("no/such/file.txt", "neither a set of templates nor a file"),
        (["a video"], r"'a video' has not just one \{\}"),
        (["{} and {}"], r"has not just one \{\}"),
        ([], "there is no template"),
    ],
)
def test_wrong_templates_are_told(templates, told):
    with pytest.raises(UsageError, match=told):
        prompts(["x"], templates)


def test_a_file_without_templates_is_told(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UsageError, match="holds no list of templates"):
        prompts(["x"], str(tmp_path / "a.json"))
    (tmp_path / "b.json").write_text("[")
    with pytest.raises(UsageError, match="cannot read templates"):
        prompts(["x"], str(tmp_path / "b.json"))
