"""What only a GPU can show; skipped without one."""

from __future__ import annotations

import pytest
import torch
from support import MODEL, SMALL

import vidinit

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
