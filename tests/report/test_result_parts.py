from __future__ import annotations

from report.browsing import Reader

from vidinit.report.result_parts import phrase, result_sections


def test_single_figures_are_one_table() -> None:
    (part,) = result_sections({"top1": 0.51239, "x<y": [0.25, 0.5], "own": {"a": 1}})
    cells = ["Top-1 accuracy", "0.5124"]
    assert Reader(part.body).texts["td"] == [*cells, "x<y", "0.25 to 0.5", "own", "a: 1"]


def test_counters_are_folded_and_told_in_words() -> None:
    told = {"steps": 300, "skipped": 0, "seconds": 4000.4, "data_wait": 0.0031, "missing": []}
    more = {"top1": 0.5, "best": 0.5, "clips_per_second": 74.81}
    first, work = result_sections({**told, **more})
    assert not first.folded and Reader(first.body).texts["td"] == ["Top-1 accuracy", "0.5"]
    assert work.folded
    cells = Reader(work.body).texts["td"]
    assert dict(zip(cells[::2], cells[1::2], strict=True)) == {
        "Best validation score": "0.5",
        "Training steps": "300",
        "Clips skipped while training": "none",
        "Time in all": "1:06:40 (h:min:s)",
        "Clips per second": "74.8",
        "Waiting for data": "less than 1 % of the time",
        "Videos that could not be read": "none",
    }


def test_what_has_parts_has_a_part_of_the_report() -> None:
    tests = {"plain": {"top1": 0.5}, "reverse": {"top1": 0.25, "drop": 0.25}}
    each = [{"class": f"<{i}>", "gain": i / 100} for i in range(30)]
    against = {"model": "m", "mcnemar": {"p_value": 0.5}, "classes": each}
    assert result_sections({"curve": each, "against": against, "temporal": tests}) == []
    first, second, third = result_sections({"steps": 3, "tests": tests, "compared": against})
    assert first.title == "The run in numbers" and second.title == "Tests"
    assert Reader(second.body).texts["th"] == ["", "Top-1 accuracy", "drop"]
    assert Reader(second.body).texts["td"] == ["plain", "0.5", "–", "reverse", "0.25", "0.25"]  # noqa: RUF001
    read = Reader(third.body)
    assert third.title == "Compared" and read.texts["h3"] == ["mcnemar", "Classes"]
    assert read.texts["td"][:4] == ["model", "m", "p_value", "0.5"]
    assert "<29>" in read.texts["td"] and read.texts["summary"] == ["10 more"]


def test_a_long_list_stays_short() -> None:
    many = [{"class": i} for i in range(1500)]
    (part,) = result_sections({"classes": many})
    assert "980 more, 500 are in result.json" in part.body
    assert phrase(["a", "b", "c", "d", "e", "f"]) == "6: a, b, c, d, e, …"


def test_notes_are_sentences_of_their_own() -> None:
    told = {"videos": 6, "overlap": 6, "class_clips": {"rarest": 3, "most_frequent": 40}}
    (alone,) = result_sections({**told, "notes": []})
    assert "rarest: 3; most_frequent: 40" in alone.body and "notes" not in alone.body
    result, notes = result_sections({**told, "notes": ["first <note>", "second, with a comma"]})
    assert result.body == alone.body
    assert "first &lt;note&gt;" in notes.body and "second, with a comma" in notes.body
