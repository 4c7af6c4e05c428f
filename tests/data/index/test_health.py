"""The figures of a check."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vidinit.data.index import Health, kind_of
from vidinit.data.rows import Probe, Row, Rows

PROBE = Probe(250, 25.0, 240, 320, 0, "decord")


def test_figures_count_files_not_rows() -> None:
    rows = (
        Row("a.mp4", 0, 0, 5, PROBE),
        Row("a.mp4", 1, 5, 10, PROBE),
        Row("b.mp4", 0, probe=replace(PROBE, rotation=90, num_frames=500, reader="pyav")),
        Row("c.jpg", 0, probe=Probe(1, 0.0, 48, 64, 0, "image")),
    )
    bad = (("d.mp4", "frame 12 does not decode (x)"), ("e.mp4", "frame 7 does not decode (y)"))
    assert Health(5, Rows(rows, ("x", "y")), bad).as_dict() == {
        "files": 5,
        "good": 3,
        "bad": [
            {"path": "d.mp4", "reason": "frame 12 does not decode (x)"},
            {"path": "e.mp4", "reason": "frame 7 does not decode (y)"},
        ],
        "reasons": {"frame N does not decode": 2},
        "frames": 751,
        "hours": round(30 / 3600, 4),
        "sizes": {"320x240": 2, "64x48": 1},
        "fps": {"25": 2},
        "rotated": 1,
        "readers": {"decord": 1, "pyav": 1, "image": 1},
        "outside": [],
        "partial": [],
    }


def test_sizes_name_the_common_ones() -> None:
    rows = [Row(f"{i}.jpg", probe=Probe(1, 0.0, 10, i)) for i in range(1, 31)]
    rows += [Row(f"{i} too.jpg", probe=Probe(1, 0.0, 10, 30)) for i in range(5)]
    sizes = Health(35, Rows(tuple(rows)), ()).as_dict()["sizes"]
    assert sizes["30x10"] == 6 and sizes["other"] == 10 and len(sizes) == 21


def test_segments_behind_the_end_are_named() -> None:
    rows = [Row("a.mp4", 0, start, start + 1, PROBE) for start in (0, 9.96, 10, 12)]
    rows.append(Row("frames", 0, 3, 4, replace(PROBE, fps=0.0)))
    outside = Health(2, Rows(tuple(rows)), ()).as_dict()["outside"]
    assert [item["reason"] for item in outside] == [
        "it ends at 10.00 s, before its segment begins at 10 s",
        "it ends at 10.00 s, before its segment begins at 12 s",
    ]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("it is cut off: 30 of 60 frames", "it is cut off"),
        ("frame 3 does not decode (Invalid data (2) found)", "frame N does not decode"),
        ("no answer within 2.5 s", "no answer within N s"),
        ("the decoder crashed (SIGSEGV)", "the decoder crashed"),
        ("it ends after 12 of 40 frames", "it ends after N of N frames"),
    ],
)
def test_kinds_of_reasons(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind
