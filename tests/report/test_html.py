from __future__ import annotations

import re

import pytest
from report.browsing import Reader

from vidinit.report.html import Section, details, figure, page, table

NASTY = "<script>alert('x')</script> & \"more\""


def test_page_is_one_well_formed_file() -> None:
    text = page("A run", [Section("One", "<p>first</p>", "how"), Section("Two", "<p>second</p>")])
    read = Reader(text)
    assert text.startswith("<!DOCTYPE html>")
    assert read.texts["h1"] == ["A run"] and read.texts["title"] == ["A run"]
    assert read.texts["h2"] == ["One", "Two"]
    assert read.texts["p"] == ["first", "how", "second"]
    names = {tag for tag, _ in read.tags}
    assert not names & {"script", "link", "iframe"}
    assert not re.search(r"https?://|@import|url\(", text)
    viewport = [attrs for tag, attrs in read.tags if attrs.get("name") == "viewport"]
    assert "width=device-width" in str(viewport[0]["content"])


def test_page_escapes_texts_but_not_bodies() -> None:
    text = page(NASTY, [Section(NASTY, "<b>bold</b>", NASTY)], subtitle=NASTY)
    read = Reader(text)
    assert "script" not in {tag for tag, _ in read.tags}
    assert read.texts["h1"] == read.texts["h2"] == read.texts["p"][:1] == [NASTY]
    assert read.texts["b"] == ["bold"]


def test_table_escapes_every_cell() -> None:
    read = Reader(table([NASTY, "n"], [[NASTY, 1]]))
    assert read.texts["th"] == [NASTY, "n"] and read.texts["td"] == [NASTY, "1"]


def test_table_formats_numbers_and_marks_a_row() -> None:
    text = table(["name", "value"], [["a", 0.123456], ["b", None], ["c", 12345678]], highlight=1)
    read = Reader(text)
    assert read.texts["td"] == ["a", "0.1235", "b", "–", "c", "12345678"]  # noqa: RUF001
    rows = [attrs for tag, attrs in read.tags if tag == "tr"]
    assert [row.get("class") for row in rows] == [None, None, "highlight", None]
    heads = [attrs for tag, attrs in read.tags if tag == "th"]
    assert [head.get("class") for head in heads] == [None, "number"]


def test_columns_with_words_stand_to_the_left_and_paths_may_be_broken() -> None:
    text = table(["", ""], [["a", 1], ["b", "a/path/of/more/than/a/few/letters.mp4"]])
    cells = [attrs.get("class") for tag, attrs in Reader(text).tags if tag == "td"]
    assert cells == [None, None, None, "long"]


def test_details_and_figures_escape_their_words() -> None:
    read = Reader(details(NASTY, "<b>in</b>") + figure("<i>p</i>", f"{NASTY}\nbelow"))
    assert read.texts["summary"] == [NASTY] and read.texts["b"] == ["in"]
    assert read.texts["figcaption"] == [f"{NASTY}below"] and ("br", {}) in read.tags


def test_many_parts_get_a_list_of_links() -> None:
    parts = [Section(f"Part {i}", "<p>x</p>") for i in range(5)]
    read = Reader(page("p", parts))
    links = [attrs["href"] for tag, attrs in read.tags if tag == "a"]
    assert [f"#{attrs['id']}" for tag, attrs in read.tags if tag == "section"] == links
    assert read.texts["a"] == [f"Part {i}" for i in range(5)]
    assert "nav" not in Reader(page("p", parts[:4])).texts


def test_table_without_headers_has_no_head() -> None:
    assert "thead" not in dict(Reader(table(["", ""], [["a", 1]])).tags)


def test_table_of_ragged_rows() -> None:
    with pytest.raises(ValueError, match="2 columns"):
        table(["a", "b"], [["only one"]])
