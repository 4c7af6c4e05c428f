"""What only a GPU can show; skipped without one."""

from __future__ import annotations

import pytest
import torch
import yaml
from support import MODEL, SMALL

import vidinit
from vidinit.engine import resume
from vidinit.engine.accelerators import make_accelerator
from vidinit.pipelines.finetune.settings import FinetuneConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_train_and_score(precision, motion_set, tmp_path):
    how = {"device": "cuda", "precision": precision}
    out = tmp_path / "run"
    result = vidinit.finetune(MODEL, data=motion_set, out=out, overrides=SMALL, epochs=1, **how)
    assert result["steps"] == 3
    scores = vidinit.evaluate(out, data=motion_set, out=tmp_path / "e", **how)
    assert scores["videos"] == 6


def test_the_scaler_of_fp16_goes_on_where_it_was(tmp_path):
    config = FinetuneConfig(model="r3d50", device="cuda", precision="fp16")
    accelerator = make_accelerator(config)
    model = torch.nn.Linear(4, 4)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))

    def step(factor: float) -> None:
        optimizer.zero_grad()
        accelerator.backward(model(torch.ones(2, 4, device="cuda")).sum() * factor)
        optimizer.step()

    step(float("inf"))  # an overflow: the scale is halved
    saved = accelerator.scaler.get_scale()
    resume.save(accelerator, tmp_path, resume.Progress(step=1))
    step(float("inf"))
    assert accelerator.scaler.get_scale() == saved / 2
    resume.restore(accelerator, tmp_path)
    assert accelerator.scaler.get_scale() == saved


def test_auto_is_bf16_in_training_alone(motion_set, tmp_path):
    out = tmp_path / "run"
    vidinit.finetune(MODEL, data=motion_set, out=out, overrides=SMALL, epochs=1, device="cuda")
    fast = torch.cuda.get_device_capability()[0] >= 8
    told = yaml.safe_load((out / "config.yaml").read_text())["precision"]
    assert told == ("bf16" if fast else "fp32")
    vidinit.evaluate(out, data=motion_set, out=tmp_path / "e", device="cuda")
    assert yaml.safe_load((tmp_path / "e" / "config.yaml").read_text())["precision"] == "fp32"


@pytest.mark.parametrize("name", ["sts-r3d50", "i3d-mobilenetv2_050", "r2plus1d-18", "c2d-r50"])
def test_models_agree_with_the_cpu(name):
    model = vidinit.create_model(name, num_classes=5).eval()
    clip = torch.randn(2, 3, 4, 64, 64)
    with torch.no_grad():
        want = model(clip)
        with torch.backends.cudnn.flags(allow_tf32=False):
            got = model.cuda()(clip.cuda()).cpu()
    assert (got - want).abs().max() < 1e-3 * max(1.0, float(want.abs().max()))


def test_convert_and_profile():
    report = vidinit.convert("tf_efficientnet_lite0", "sts", device="cuda")
    assert report.max_difference < 1e-2
    rows = vidinit.profile(["r3d50"], device="cuda", seconds=0.2)
    assert rows[0]["peak_memory_mb"] > 100
