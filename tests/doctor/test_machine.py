"""What the doctor says of packages and of the machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest
from project_file import pyproject
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit.doctor import examine, machine, packages
from vidinit.doctor.finding import NO_ANSWER, Finding

Usage = namedtuple("Usage", "total used free")


def test_it_is_light_itself():
    code = (
        "import sys, vidinit.commands.doctor, vidinit.doctor.examine\n"
        "print(sorted({'torch', 'torchvision', 'av', 'numpy', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("free", "status"), [(1 << 40, "ok"), (1 << 31, "warn"), (1 << 20, "fail")]
)
def test_free_disk(monkeypatch, tmp_path, free, status):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(1 << 41, 0, free))
    assert machine.working_folder(tmp_path).status == status


def test_folders_that_cannot_be_written(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(1 << 41, 0, 1 << 40))
    assert machine.working_folder(gone).status == "warn"
    assert machine.cache(lambda: gone / "vidinit").status == "ok", "it will be made"
    monkeypatch.setattr(machine, "_unwritable", lambda _: "Read-only file system")
    assert "Read-only" in machine.cache(lambda: gone).found
    monkeypatch.setattr(tempfile, "tempdir", str(gone))
    found = machine.temporary_folder()
    assert found.status == "fail" and "TMPDIR" in found.advice


def test_a_home_that_is_not_there():
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    assert machine.cache(nowhere).status == "warn"


def test_a_share_of_the_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 64)
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(64), raising=False)
    found = machine.cores()
    assert found.status == "warn" and "may use 2.5" in found.found
    assert "OMP_NUM_THREADS=2" in found.advice
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cores().status == "ok"


def test_a_low_limit_of_open_files(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 2048))
    found = machine.open_files()
    assert found.status == "warn" and "ulimit -n 2048" in found.advice
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4096, 4096))
    assert machine.open_files().status == "ok"


def test_what_packages_say_of_each_other(monkeypatch):
    known = {"torch": "2.5.1+cpu", "torchvision": "0.19.0", "numpy": "1.20.0"}
    wishes = {
        "torchvision": ["torch==2.4.0"],
        "vidinit": ["numpy>=1.26", "jinja2>=3", "torch>=2", "av>=17", "onnx; extra == 'onnx'"],
    }
    monkeypatch.setattr(packages, "installed", known.get)
    monkeypatch.setattr(packages, "requires", wishes.get)
    assert packages.unmatched_pair() == "torchvision 0.19.0 asks for torch==2.4.0, not 2.5.1+cpu"
    found = {one.check: one for one in packages.packages()}
    assert found["package numpy"].status == "warn" and ">=1.26" in found["package numpy"].advice
    assert found["package jinja2"].status == "fail"
    assert "package torch" not in found and "package onnx" not in found
    known["torch"] = "2.4.0+cu121"
    assert packages.unmatched_pair() == ""


def test_extras_have_a_purpose_and_a_command(monkeypatch):
    declared = pyproject()["project"]["optional-dependencies"]
    assert set(packages.EXTRAS) == set(declared) - {"test", "dev"}
    monkeypatch.setattr(packages, "installed", lambda _: None)
    for found in packages.extras():
        assert found.status == "none"
        assert "not for this" in found.found or found.advice.startswith("pip install ")


def test_the_table_and_the_exit_code(monkeypatch):
    good, bad = Finding("one", "ok", "there"), Finding("two", "fail", "gone", "get it")
    monkeypatch.setattr(examine, "examine", lambda patience: [good])
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0 and done.stdout.endswith("a run can start\n")
    monkeypatch.setattr(examine, "examine", lambda patience: [good, bad])
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1 and "-> get it" in done.stdout
    assert done.stdout.endswith("these would stop a run: two\n")
    late = Finding("three", "warn", NO_ANSWER)
    assert "as far as could be tried; no answer in time: three" in examine.verdict([good, late])
