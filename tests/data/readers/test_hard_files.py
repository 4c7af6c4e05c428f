"""Every hard file is read with exactly the right frames, or left out with the right reason."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from data.readers import filmed_files, hard_files, making
from data.readers.hard_files import Case

from vidinit.data.index.pool import Outcome, run_in_pool
from vidinit.data.readers import decord
from vidinit.data.rows import Probe

Zoo = dict[str, tuple[Case, Outcome]]


def examined(cases: dict[str, Case]) -> Zoo:
    """The files and what came of reading them, in processes that can be killed."""
    items = [[str(case.path), case.decord in ("right", "wrong")] for case in cases.values()]
    function = "data.readers.hard_files:examine"
    outcomes = {
        outcome.item[0]: outcome for outcome in run_in_pool(function, items, workers=2, deadline=30)
    }
    return {name: (case, outcomes[str(case.path)]) for name, case in cases.items()}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return examined(hard_files.build(tmp_path_factory.mktemp("zoo")))


@pytest.mark.slow
def test_hard_files_are_read_exactly_or_left_out_for_the_right_reason(zoo: Zoo) -> None:
    assert len(zoo) >= 55
    assert not _faults(zoo)


def test_filmed_files_are_read_exactly(tmp_path: Path) -> None:
    zoo = examined(filmed_files.build(tmp_path))
    assert len(zoo) >= 50
    assert not _faults(zoo)


@pytest.mark.slow
@pytest.mark.skipif(decord.load() is None, reason="decord is not installed")
def test_the_reader_of_a_file_does_not_depend_on_the_load(tmp_path: Path) -> None:
    """20 probes each of AVI, WMV and what decord reads, while the machine has more to do."""
    zoo = filmed_files.build(tmp_path)
    names = ("h264 b-frames.avi", "packed, 2 b-frames", "standing: mpeg4.avi", "wmv2.wmv")
    paths = [str(zoo[name].path) for name in names]
    codecs = {"a.mp4": "libx264", "a.mkv": "libx264", "a.webm": "libvpx-vp9", "b.mp4": "libx265"}
    paths += [str(making.encode(tmp_path / name, codec)) for name, codec in codecs.items()]
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(3 * (os.cpu_count() or 1))
    ]
    try:
        items = [[path, False, "decord"] for path in paths for _ in range(20)]
        function = "vidinit.data.index:probe_file"
        found: dict[str, set[str]] = {path: set() for path in paths}
        for outcome in run_in_pool(function, items, workers=2, deadline=120):
            found[outcome.item[0]].add(json.dumps(outcome.value or outcome.reason))
    finally:
        for process in busy:
            process.kill()
    assert all(len(probes) == 1 for probes in found.values())
    readers = [Probe(*json.loads(*probes)).reader for probes in found.values()]
    assert readers == ["pyav"] * 4 + ["decord"] * 4


def _faults(zoo: Zoo) -> dict[str, str]:
    return {
        name: fault
        for name, (case, outcome) in zoo.items()
        if (fault := _fault(case, outcome)) and not (name == "no permission" and os.getuid() == 0)
    }


def _fault(case: Case, outcome: Outcome) -> str:
    """What is wrong about the outcome; empty if nothing is."""
    if outcome.killed:
        return f"killed: {outcome.reason}"
    if case.reason:
        fits = outcome.reason is not None and re.search(case.reason, outcome.reason)
        return "" if fits else f"left out for {outcome.reason!r}, not {case.reason!r}"
    if outcome.value is None:
        return f"left out: {outcome.reason}"
    found: dict[str, Any] = outcome.value
    codes = list(case.codes) or found["sequential"]
    probe = found["probe"]
    if case.fault:
        count = probe["num_frames"]
        if not (re.search(case.fault, probe["fault"]) and case.least <= count < len(codes)):
            return f"kept {count} for {probe['fault']!r}, not {case.fault!r}"
        if probe["total"] not in (0, len(codes)):
            return f"{probe['total']} frames, not {len(codes)}"
        codes = codes[:count]
    elif probe["fault"]:
        return f"kept {probe['num_frames']} for {probe['fault']!r}"
    elif len(codes) < len(case.codes or range(10)) or found["sequential"] != codes:
        return f"made wrongly: {found['sequential']}"
    if (probe["num_frames"], probe["rotation"]) != (len(codes), case.rotation):
        return f"probed as {probe}"
    if found["codes"] != [codes[index] for index in found["order"]]:
        return f"read wrongly: {found['codes']} in {found['order']}"
    order = found["order"]
    if found["places"] != order or found["each"] != order[: len(found["each"])]:
        return f"other pictures: {found['places']} and {found['each']} in {order}"
    if found["asked"] != found["codes"]:
        return f"read wrongly where decord was asked for: {found['asked']} in {found['order']}"
    if case.access and probe["access"] != case.access:
        return f"found by {probe['access']}, not {case.access}"
    if case.fps is not None and probe["fps"] != pytest.approx(case.fps, rel=0.03):
        return f"{probe['fps']} frames a second, not {case.fps}"
    if found["times"][0] != pytest.approx(found["times"][1], abs=1e-4):
        return f"times {found['times'][0]}, not {found['times'][1]}"
    return ""


@pytest.mark.skipif(decord.load() is None, reason="decord is not installed")
def test_decord_reads_what_it_gets_right_and_nothing_else(zoo: Zoo) -> None:
    faults = {}
    for name, (case, outcome) in zoo.items():
        if not case.decord:
            continue
        assert outcome.value is not None, name
        reader = outcome.value["probe"]["reader"]
        right = outcome.value["decord"] == outcome.value["sequential"]
        if reader != case.reader or (case.decord != "hangs" and right != (case.decord == "right")):
            faults[name] = (reader, outcome.value["decord"])
    assert not faults


@pytest.mark.slow
@pytest.mark.skipif(decord.load() is None, reason="decord is not installed")
def test_a_decoder_that_hangs_is_killed(zoo: Zoo) -> None:
    path = str(zoo["times all the same"][0].path)
    function = "data.readers.hard_files:decord_alone"
    (outcome,) = run_in_pool(function, [path], workers=1, deadline=5)
    assert outcome.killed
    assert outcome.reason == "no answer within 5 s"
