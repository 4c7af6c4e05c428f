from __future__ import annotations

import re

import pytest
from report.browsing import Reader

from vidinit.report.answer import Figure, answer
from vidinit.report.html import Section, page


def test_the_answer_stands_above_all_and_its_bars_are_to_scale() -> None:
    figures = [Figure("this <one>", 0.82, (0.72, 0.89)), Figure("baseline", 0.73)]
    html = answer("Top-1 <0.82>", "Above & beyond.", figures, chance=0.5, advice=["take <care>"])
    text = page("t", [Section("One", "x")], answer=html)
    read = Reader(text)
    assert text.index("headline") < text.index("<h2>")
    assert "Top-1 <0.82>" in read.texts["p"] and "Above & beyond." in read.texts["p"]
    assert read.texts["li"] == ["take <care>"]
    assert read.texts["b"] == ["0.820 (0.720 to 0.890)", "0.730"]
    styles = [str(a["style"]) for t, a in read.tags if t == "span" and "style" in a]
    assert styles == [
        *("width: 82.00%", "left: 72.00%; width: 17.00%", "left: 50.00%"),
        *("width: 73.00%", "left: 50.00%"),
    ]
    assert re.findall(r'<div class="first">', html) == ['<div class="first">']


def test_what_is_not_known_is_not_drawn() -> None:
    html = answer("h", "")
    assert "verdict" not in html and "figures" not in html and "<ul>" not in html
    assert "dashed" not in answer("h", "v", [Figure("a", 1.0)])
    for value in (1.2, float("nan")):
        with pytest.raises(ValueError, match="no fraction"):
            answer("h", "v", [Figure("a", value)])


def test_folded_parts_come_last_and_wide_ones_take_the_page() -> None:
    parts = [Section("A", "a", folded=True), Section("B", "b", wide=True), Section("C", "c")]
    text = page("t", parts)
    assert re.findall(r'<section id="(.*?)"( class="whole")?>\s*<h2>(.)', text) == [
        ("part-1", ' class="whole"', "B"),
        ("part-2", "", "C"),
    ]
    assert re.findall(r'<details id="(.*?)"><summary>(.)<', text) == [("part-3", "A")]
