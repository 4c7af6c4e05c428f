"""What the doctor tries in processes of their own, with packages that are broken on purpose."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import json_of, run_cli

from vidinit.doctor import trials
from vidinit.doctor.examine import Trial
from vidinit.doctor.finding import Finding

LONG = 120.0
# As much of torch as a product of ones needs.
TORCH = """
import numpy
__version__ = "9.9.0"
def ones(*shape):
    return numpy.ones(shape)
class version:
    cuda = None
"""
MISMATCH = "raise RuntimeError('operator torchvision::nms does not exist')"


def tried(trial: str, seconds: float = LONG) -> dict[str, Finding]:
    return {found.check: found for found in Trial(trial).findings(time.monotonic() + seconds)}


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules come before all others in a trial."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_what_is_installed_here_works():
    found = trials.torch_works(), trials.torchvision_fits(), trials.devices()
    assert [one.status for one in found[:2]] == ["ok", "ok"], found
    assert "auto is" in found[2].found
    assert trials.pyav_reads().status == "ok"


def test_a_torchvision_of_another_torch(fakes):
    (fakes / "torch.py").write_text(TORCH)
    (fakes / "torchvision.py").write_text(MISMATCH)
    found = tried("torch")
    assert found["torch"].status == "ok" and "9.9.0 (no CUDA)" in found["torch"].found
    assert found["torchvision"].status == "fail"
    assert "operator torchvision::nms does not exist" in found["torchvision"].found
    assert "--force-reinstall torch torchvision" in found["torchvision"].advice
    assert found["timm"] == Finding("timm", "none", "not tried: torchvision comes first")


def test_a_torch_that_does_not_load(fakes):
    (fakes / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object')")
    found = tried("torch")
    assert found["torch"].status == "fail" and "libcudart.so.13" in found["torch"].found
    assert {found[name].status for name in found if name != "torch"} == {"none"}


def test_a_torch_that_ends_the_process(fakes):
    code = "import os, signal\nprint('noise')\nos.kill(os.getpid(), signal.SIGSEGV)"
    (fakes / "torch.py").write_text(code)
    found = tried("torch")["torch"]
    assert found.status == "fail" and "SIGSEGV" in found.found and found.advice


def test_a_torch_that_never_answers(fakes):
    (fakes / "torch.py").write_text("import time; time.sleep(600)")
    before = time.monotonic()
    found = tried("torch", 0.7)
    assert time.monotonic() - before < 60
    assert found["torch"].status == "warn" and "--patience" in found["torch"].advice
    assert found["timm"].status == "none"


def test_without_decord_pyav_reads(fakes):
    (fakes / "decord.py").write_text("raise ImportError('libavcodec.so.58')")
    found = tried("readers")
    assert found["PyAV"].status == "ok"
    assert found["decord"].status == "warn" and "PyAV reads in its place" in found["decord"].found


def test_without_pyav_nothing_reads(fakes):
    (fakes / "av.py").write_text("raise ModuleNotFoundError('No module named av', name='av')")
    found = tried("readers")
    assert found["PyAV"].status == "fail" and found["PyAV"].advice == "pip install av"
    assert found["decord"].status == "none"


def test_a_decoder_that_shows_other_frames():
    import numpy as np

    frames = np.stack([np.full((4, 4, 3), level, np.uint8) for level in trials._LEVELS])
    trials._compare(frames)
    with pytest.raises(RuntimeError, match="come back as"):
        trials._compare(frames[::-1])


@pytest.fixture
def answering() -> Iterator[str]:
    """The address of a server that answers every request, if only with 501."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_hub_answers_under_its_endpoint(answering, monkeypatch, tmp_path):
    (tmp_path / "models--timm--resnet50").mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", answering)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = tried("hub")["hub"]
    assert (found.status, found.found) == ("ok", f"{answering} answers; 1 model in {tmp_path}")


def test_the_hub_is_out_of_reach_or_not_asked(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    found = trials.hub_answers()
    assert found.status == "warn" and "http://127.0.0.1:1 does not answer" in found.found
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = trials.hub_answers()
    assert found.status == "ok" and "HF_HUB_OFFLINE is set" in found.found


def test_the_command_says_all_in_json_and_fails(tmp_path):
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "torchvision.py").write_text(MISMATCH)
    flags = ("--json", "--patience", str(LONG))
    done = run_cli("doctor", *flags, PYTHONPATH=str(tmp_path), HF_HUB_OFFLINE="1")
    assert done.returncode == 1, done.stderr
    done.returncode = 0
    value = json_of(done)
    assert set(value) == {"ok", "versions", "checks"} and value["ok"] is False
    assert {"vidinit", "python", "torch", "torchvision", "timm", "decord"} <= set(value["versions"])
    checks = {check["check"]: check for check in value["checks"]}
    assert all(set(check) == {"check", "status", "found", "advice"} for check in value["checks"])
    assert {name for name, check in checks.items() if check["status"] == "fail"} == {"torchvision"}
    assert {"vidinit", "Python", "PyAV", "decord", "working folder", "temporary folder"} <= set(
        checks
    )
    assert {"cache folder", "shared memory", "cores", "open files", "hub"} <= set(checks)
