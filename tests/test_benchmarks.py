"""`python -m tests.benchmarks`: its table is true, and it goes on when one of them fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks import __main__ as every
from benchmarks.__main__ import BENCHMARKS, ROOT, Benchmark
from typer.testing import CliRunner
from vidinit.commands import app

FOLDER = ROOT / "tests" / "benchmarks"


def test_every_benchmark_is_in_the_table():
    runnable = {
        f"tests.benchmarks.{file.stem}"
        for file in FOLDER.glob("*.py")
        if "argparse" in file.read_text() and file.stem != "__main__"
    }
    assert len(runnable) >= 8
    run = {benchmark.command.split()[0] for benchmark in BENCHMARKS.values()}
    assert run == runnable | {"vidinit"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_options_exist(name):
    benchmark = BENCHMARKS[name]
    module = benchmark.command.split()[0]
    if module == "vidinit":
        text = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout
        assert benchmark.command.split()[1] == benchmark.quick.split()[0] == name
    else:
        text = (FOLDER / f"{module.rpartition('.')[2]}.py").read_text()
    for flag in re.findall(r"--[a-z-]+", f"{benchmark.command} {benchmark.quick}"):
        assert flag in text, flag


def test_what_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    table = {
        "bad": Benchmark("no_such_module", 1, ""),
        "lacking": Benchmark("platform", 1, "", needs="no_such_package"),
        "good": Benchmark("platform", 1, "--terse"),
    }
    monkeypatch.setattr(every, "BENCHMARKS", table)
    assert every.main(["--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "about 3 minutes" in said and "failed: bad, lacking" in said
    assert "it needs `pip install no_such_package`" in said
    written = (tmp_path / "out" / "good.md").read_text()
    assert written.startswith("# good\n\n`python -m platform`\n") and "torch " in written
    assert "No module named no_such_module" in (tmp_path / "out" / "bad.log").read_text()
    assert "exit code 1" in (tmp_path / "out" / "bad.md").read_text()
    assert not list(Path(tmp_path, "out").glob("*.part"))
    assert every.main(["--only", "good", "--quick", "--out", str(tmp_path / "out")]) == 0
    assert "`python -m platform --terse`" in (tmp_path / "out" / "good.md").read_text()


def test_names_and_the_plan(capsys):
    with pytest.raises(SystemExit) as stopped:
        every.main(["--only", "nothing"])
    assert stopped.value.code == 2
    assert every.main(["--plan"]) == 0
    minutes = sum(benchmark.minutes for benchmark in BENCHMARKS.values())
    assert f"about {minutes:g} minutes" in capsys.readouterr().out
    assert minutes <= 120
