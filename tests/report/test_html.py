from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from vidinit.report.html import Section, page, table

VOID = {"meta", "img", "br", "link"}
NASTY = "<script>alert('x')</script> & \"more\""


class Reader(HTMLParser):
    """Checks that tags are closed in order; keeps tags with attributes, and texts by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data


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


def test_table_without_headers_has_no_head() -> None:
    assert "thead" not in dict(Reader(table(["", ""], [["a", 1]])).tags)


def test_table_of_ragged_rows() -> None:
    with pytest.raises(ValueError, match="2 columns"):
        table(["a", "b"], [["only one"]])
