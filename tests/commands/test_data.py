"""`vidinit data check` as its user meets it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from data.readers import making
from support import moving_bar, write_video
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.data import index
from vidinit.data.index import UnreadableError
from vidinit.errors import DataError, UsageError


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 frames of 48 x 48, 12 a second."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", moving_bar(2, 0))


@pytest.fixture(scope="session")
def videos(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes a and b with three and two clips, of which a/2.mp4 is text, and a clip outside."""
    root = tmp_path_factory.mktemp("videos")
    for name in ("a/0", "a/1", "b/0", "b/1", "outside"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, root / f"{name}.mp4")
    (root / "a" / "2.mp4").write_text("no video")
    return root


@pytest.fixture
def own(videos: Path, tmp_path: Path) -> Path:
    """A copy to change, of which nothing is known."""
    return Path(shutil.copytree(videos, tmp_path / "own"))


def run(*args: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["data", "check", *map(str, args)], env={"COLUMNS": "120"})
    assert result.exit_code == code, result.output
    return result


def test_json_names_every_bad_file(videos: Path) -> None:
    report = json.loads(run(videos, "--json", code=1).stdout)
    assert (report["files"], report["good"], report["rows"]) == (6, 5, 6)
    (bad,) = report["bad"]
    assert bad["path"] == str(videos / "a" / "2.mp4") and bad["reason"].startswith("it is no video")
    assert report["classes"] == {"a": {"rows": 3, "good": 2}, "b": {"rows": 2, "good": 2}}
    assert (report["unlabelled"], report["frames"], report["sizes"]) == (1, 50, {"48x48": 5})
    assert report["fps"] == {"12": 5} and sum(report["readers"].values()) == 5
    assert sum(report["reasons"].values()) == 1


def test_exit_codes(videos: Path, tmp_path: Path) -> None:
    """0: all is well; 1: something is bad; 2: a wrong word; 3: too much is bad, or all, or none."""
    bad = videos / "a" / "2.mp4"
    run(videos, "--max-bad", "17%", code=1)
    result = run(videos, "--max-bad", "10%", "--json", code=3)
    assert re.search(r"^error: 1 of 6 files cannot be read, .*2\.mp4.*--max-bad", result.stderr)
    assert json.loads(result.stdout)["bad"][0]["path"] == str(bad), "it is reported all the same"
    result = run(bad, code=3)
    assert "error: none of 1 files can be read: " in result.stderr
    assert "error" not in run(videos / "b").stderr
    assert "error: " in run(tmp_path, code=3).stderr, "an empty folder"
    for wrong in (
        ["nowhere"],
        [videos, "--max-bad", "lots"],
        [videos, "--max-bad", "150%"],
        [videos, "--workers", "-1"],
        [videos, "--deadline", "0"],
        [videos, "--split", "0"],
        [videos, "--class-names", "nowhere.txt"],
    ):
        result = run(*wrong, code=2)
        assert result.stdout == "" and len(result.stderr.splitlines()) == 1, wrong
        assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr


def test_the_table(videos: Path) -> None:
    result = run(videos, code=1)
    lines = re.sub(r" *[│|] *", "|", result.stdout).splitlines()
    for line in (
        "|files|6|",
        "|readable|5|",
        "|width x height|48x48: 5|",
        "|frames|50|",
        "|classes|2: 2 to 2 readable clips each, median 2|",
        "|a|2, 1 left out|",
        "|b|2|",
        "|without a class|1|",
    ):
        assert line in lines, result.stdout
    assert f"cannot be read: {videos / 'a' / '2.mp4'}: it is no video" in result.stdout
    assert "no labels" not in result.stderr


def test_the_table_holds_strange_names_and_not_too_many(tmp_path: Path) -> None:
    names = [tmp_path / f"[bold]{i}\n\x1b[31m.mp4" for i in range(25)]
    for name in [*names, Path(os.fsdecode(bytes(tmp_path) + b"/\xff.mp4"))]:
        name.touch()
    result = run(tmp_path, code=3)
    assert "[bold]0\\n\\x1b[31m.mp4: the file is empty" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stdout.count("cannot be read: ") == 20
    assert "and 6 more; --json names all" in result.stdout
    assert len(json.loads(run(tmp_path, "--json", code=3).stdout)["bad"]) == 26


def test_lists_with_and_without_labels(videos: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.txt"
    labelled.write_text("a/0.mp4 0\nb/0.mp4 1\na/0.mp4 1\n")
    report = json.loads(run(labelled, "--root", videos, "--json").stdout)
    assert (report["files"], report["rows"]) == (2, 3)
    assert report["classes"] == {"0": {"rows": 1, "good": 1}, "1": {"rows": 2, "good": 2}}
    bare = tmp_path / "bare.txt"
    bare.write_text(f"{videos}/a/0.mp4\n{videos}/a/missing.mp4\n")
    result = run(bare, "--json", code=1)
    assert re.match(r"note: no labels: .*bare\.txt:1: no label", result.stderr)
    report = json.loads(result.stdout)
    assert report["classes"] is None and report["unlabelled"] == 2
    assert report["bad"] == [{"path": str(videos / "a" / "missing.mp4"), "reason": "no such file"}]
    report = json.loads(run(bare, videos / "b", "--json", code=1).stdout)
    assert (report["files"], report["good"]) == (4, 3), "several sources are one"


def test_multi_labels_pairs_and_segments(videos: Path, tmp_path: Path) -> None:
    several = tmp_path / "several.txt"
    several.write_text(f"{videos}/a/0.mp4 run;jump\n{videos}/a/2.mp4 run\n")
    report = json.loads(run(several, "--json", code=1).stdout)
    assert report["classes"] == {"jump": {"rows": 1, "good": 1}, "run": {"rows": 2, "good": 1}}
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(
        "path,verb,noun,start,end\n"
        f"{videos}/a/0.mp4,open,door,0,0.5\n{videos}/a/0.mp4,open,jar,7,8\n"
    )
    report = json.loads(run(pairs, "--json", code=1).stdout)
    assert report["classes"] == {"open": {"rows": 2, "good": 2}}
    assert report["nouns"] == {"door": {"rows": 1, "good": 1}, "jar": {"rows": 1, "good": 1}}
    assert report["bad"] == [] and report["good"] == 1
    (late,) = report["outside"]
    assert late["path"] == str(videos / "a" / "0.mp4") and "begins at 7 s" in late["reason"]


def test_damage_is_found_by_a_full_check_and_kept_or_not(tmp_path: Path) -> None:
    path = making.damaged_between(tmp_path)
    assert "damaged" not in run(path).stdout.replace(str(path), "")
    result = run(path, "--full")
    line = re.search(r"^damaged: .*: kept (\d+) of 40 frames \((frame .*)\)$", result.stdout, re.M)
    assert line is not None and "1, of which the beginning is kept" in result.stdout
    (told,) = json.loads(run(path, "--json").stdout)["partial"]
    assert told == {"path": str(path), "kept": int(line[1]), "of": 40, "reason": line[2]}
    report = json.loads(run(path, "--partial", "drop", "--json", code=3).stdout)
    assert report["bad"] == [{"path": str(path), "reason": line[2]}]
    run(path, "--partial", "keeep", code=2)
    # What is copied is the same.
    made = vidinit.prepare_data(path, tmp_path / "copies", workers=1)
    assert made["partial"] == [told] and made["done"] == 1


def test_again_probes_anew(own: Path) -> None:
    for name in ("0", "1"):
        index.quarantine(str(own / "b" / f"{name}.mp4"), "it hung")
    report = json.loads(run(own / "b", "--json", code=3).stdout)
    assert [item["reason"] for item in report["bad"]] == ["it hung"] * 2
    assert json.loads(run(own / "b", "--again", "--json").stdout)["good"] == 2
    assert json.loads(run(own / "b", "--json").stdout)["good"] == 2


def test_a_fault_of_ours_shows_its_traceback(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "data" / "index")
    shutil.copy(own / "a" / "0.mp4", own / "a" / "fault.mp4")
    real = index.run_in_pool
    monkeypatch.setattr(
        index, "run_in_pool", lambda _, items, **o: real("pool_functions:probe", items, **o)
    )
    short, long = run(own, code=1), run(own, "--debug", code=1)
    assert "unexpected RuntimeError: ZeroDivisionError: " in short.stderr
    assert "fault.mp4" in short.stderr and len(short.stderr.splitlines()) == 1
    assert "in fault\n    return 1 / 0" in long.stderr
    assert short.stdout == long.stdout == ""


def test_without_a_cache_there_is_a_note(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    result = run(videos / "b", "--json")
    assert json.loads(result.stdout)["good"] == 2
    notes = [line for line in result.stderr.splitlines() if "is not kept" in line]
    assert len(notes) == 1 and notes[0].startswith("note: ")


def test_the_function_is_the_command(videos: Path) -> None:
    report = vidinit.check_data(videos, max_bad="50%", workers=1)
    assert report == json.loads(run(videos, "--json", code=1).stdout)
    with pytest.raises(UnreadableError, match="1 of 6") as caught:
        vidinit.check_data(str(videos), max_bad=0.1)
    assert caught.value.report == report
    with pytest.raises(DataError, match="none of 1"):
        vidinit.check_data([videos / "a" / "2.mp4"])
    with pytest.raises(UsageError, match="max_bad"):
        vidinit.check_data(videos, max_bad=2)
    with pytest.raises(UsageError):
        vidinit.check_data([])


def test_help_fits_and_its_examples_name_real_options() -> None:
    text = CliRunner().invoke(app, ["data", "check", "--help"], env={"COLUMNS": "100"}).stdout
    assert max(map(len, text.splitlines())) <= 100
    options, examples = text.split("$ vidinit", 1)
    used = set(re.findall(r"--[a-z-]+", examples))
    assert used and used <= set(re.findall(r"--[a-z-]+", options))
    group = CliRunner().invoke(app, ["data", "--help"], env={"COLUMNS": "100"}).stdout
    assert " check " in group
    wrong = CliRunner().invoke(app, ["data", "chek"])
    assert wrong.exit_code == 2 and "check" in wrong.stderr


def in_a_process(*args: object) -> subprocess.Popen[str]:
    code = (
        "import sys\n"
        "from vidinit.commands import app\n"
        "try:\n"
        "    app(sys.argv[1:])\n"
        "finally:\n"
        "    heavy = {'torch', 'timm', 'torchvision', 'accelerate', 'matplotlib', 'decord'}\n"
        "    print('loaded', sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "data", "check", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_loads_nothing_heavy(videos: Path) -> None:
    process = in_a_process(videos, "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and err == "loaded []\n", err
    assert json.loads(out)["good"] == 5


def test_ctrl_c_keeps_what_was_found(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(600):
        os.link(clip, folder / f"{i}.mp4")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    process = in_a_process(folder, "--workers", "1")
    wait_until(lambda: kept(tmp_path) > 0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "", err
    assert "error: interrupted; what was found is kept" in err
    assert 0 < kept(tmp_path) < 600


def kept(folder: Path) -> int:
    """Entries in the cache."""
    (file, *_) = [*folder.glob("cache/vidinit/*.sqlite"), None]
    if file is None:
        return 0
    try:
        with closing(sqlite3.connect(file)) as database:
            return int(database.execute("SELECT count(*) FROM probes").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # the table is not there yet


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
