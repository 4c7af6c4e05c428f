"""Exports of CVAT for video."""

from __future__ import annotations

import pytest
from data.boxes.conftest import plain

from vidinit.data.boxes import read_boxes
from vidinit.errors import DataError

META = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>5</id><name>yard</name><size>30</size><mode>interpolation</mode>
      <labels>
        <label><name>person</name><attributes>{attributes}</attributes></label>
      </labels>
      <original_size><width>640</width><height>360</height></original_size>
      <source>yard.mp4</source>
    </task>
    <dumped>2024-05-01 10:00:00+00:00</dumped>
  </meta>
"""
ACTION = "<attribute><name>action</name><input_type>select</input_type></attribute>"


def box(frame, x=10.0, outside=0, action=None, label="box"):
    inner = "" if action is None else f'<attribute name="action">{action}</attribute>'
    return (
        f'    <{label} frame="{frame}" outside="{outside}" occluded="0" keyframe="1" '
        f'xtl="{x}" ytl="20.50" xbr="{x + 30}" ybr="90.00" z_order="0">{inner}</{label}>\n'
    )


def track(label, *boxes, number=0):
    return f'  <track id="{number}" label="{label}" source="manual">\n{"".join(boxes)}  </track>\n'


def file_of(*tracks, attributes="", meta=META):
    return meta.format(attributes=attributes) + "".join(tracks) + "</annotations>\n"


def test_frames_from_0_and_people_that_leave(write, one):
    """Frames between key frames are written out; outside ends a track."""
    text = file_of(
        track("walk", box(0), box(1, 12), box(2, 14, outside=1)),
        track("sit", box(1, 300), number=1),
    )
    part, said = one(write("annotations.xml", text))
    assert plain(part) == [
        ("yard.mp4", 0, [10, 20.5, 40, 90], ("walk",)),
        ("yard.mp4", 1, [12, 20.5, 42, 90], ("walk",)),
        ("yard.mp4", 1, [300, 20.5, 330, 90], ("sit",)),
    ]
    assert part.boxes.track.tolist() == [0, 0, 1] and not part.boxes.fractions
    assert "2 tracks in yard.mp4, actions are the labels of tracks" in said
    assert "1 boxes left out in which the person is outside" in said


def test_actions_that_are_an_attribute(write, one):
    text = file_of(
        track("person", box(0, action="walk"), box(1, action="sit &amp; wave"), box(2, action="")),
        attributes=ACTION,
    )
    part, said = one(write("annotations.xml", text))
    assert [names for *_, names in plain(part)] == [("walk",), ("sit & wave",), ()]
    assert "actions are the attribute 'action'" in said


def test_other_attributes_and_shapes_are_no_actions(write, one):
    other = box(3).replace("></box>", '><attribute name="color">red</attribute></box>')
    text = file_of(track("walk", other, box(4, label="polygon")))
    part, said = one(write("annotations.xml", text))
    assert [names for *_, names in plain(part)] == [("walk",)]
    assert "1 shapes of another kind (<polygon>) are not read" in said


@pytest.mark.parametrize(("text", "message"), [
    (file_of(track("walk", box(0).replace('"10.0"', '"ten"'))), r"x.xml:16: xtl 'ten' is no num"),
    (file_of(track("walk", box(-1))), r"x.xml:16: frame -1 is none; frames count from 0"),
    (file_of(track("walk", box(0).replace("90.00", "3"))), r"x.xml:16: the box ends before it"),
    (file_of(track("walk", box(0)))[:-20], r"x.xml:17: no valid xml"),
    (file_of(), "holds no box"),
    ("<html></html>", r"x.xml:1: <html> is no export of CVAT"),
    ("hello", r"x.xml:1: no valid xml"),
    ("", r"x.xml:1: no valid xml \(no element found\)"),
    (file_of('<image id="0" name="a.jpg"><box/></image>'), r"x.xml:15: an export of CVAT for im"),
    (file_of(meta=META.replace("</source>", "</source></task><task><source>b.mp4</source>")),
     r"of 2 videos, as yard.mp4 and b.mp4"),
])  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(write, text, message):
    with pytest.raises(DataError, match=message):
        read_boxes(write("x.xml", text), find=False)


LAUGHS = '<!DOCTYPE annotations [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("doctype", [
    LAUGHS,
    '<!DOCTYPE annotations [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE annotations SYSTEM "http://localhost/x.dtd">',
])  # fmt: skip
def test_entities_are_neither_expanded_nor_fetched(write, doctype):
    text = file_of(track("&x;", box(0))).replace("<annotations>", f"{doctype}<annotations>", 1)
    with pytest.raises(DataError, match=r"x.xml:2: a document type"):
        read_boxes(write("x.xml", text), find=False)
