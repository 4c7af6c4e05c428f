"""Every hard file is read with exactly the right frames, or left out with the right reason."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from data.readers.hard_files import Case, build

from vidinit.data.index.pool import Outcome, run_in_pool
from vidinit.data.readers import decord

Zoo = dict[str, tuple[Case, Outcome]]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """The files and what came of reading them, in processes that can be killed."""
    cases = build(tmp_path_factory.mktemp("zoo"))
    items = [[str(case.path), case.decord in ("right", "wrong")] for case in cases.values()]
    function = "data.readers.hard_files:examine"
    outcomes = {
        outcome.item[0]: outcome for outcome in run_in_pool(function, items, workers=2, deadline=30)
    }
    return {name: (case, outcomes[str(case.path)]) for name, case in cases.items()}


def test_hard_files_are_read_exactly_or_left_out_for_the_right_reason(zoo: Zoo) -> None:
    faults = {}
    for name, (case, outcome) in zoo.items():
        if name == "no permission" and os.getuid() == 0:
            continue
        fault = _fault(case, outcome)
        if fault:
            faults[name] = fault
    assert len(zoo) >= 60
    assert not faults


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
    if len(codes) < len(case.codes or range(10)) or found["sequential"] != codes:
        return f"made wrongly: {found['sequential']}"
    probe = found["probe"]
    if (probe["num_frames"], probe["rotation"]) != (len(codes), case.rotation):
        return f"probed as {probe}"
    if found["codes"] != [codes[index] for index in found["order"]]:
        return f"read wrongly: {found['codes']} in {found['order']}"
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
