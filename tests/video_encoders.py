"""Tiny video encoders of transformers with random weights, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE, FRAMES = 32, 4
_SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
_DEEP = {"num_hidden_layers": 2, "num_frames": FRAMES, "image_size": SIDE}
SETTINGS: dict[str, dict[str, Any]] = {
    "VJEPA2": {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "crop_size": SIDE,
        "patch_size": 8,
        "frames_per_clip": FRAMES,
        "num_hidden_layers": 2,
        "num_pooler_layers": 2,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
    },
    "VideoMAE": {
        **_SMALL,
        **_DEEP,
        "patch_size": 8,
        "decoder_num_hidden_layers": 1,
        "decoder_hidden_size": 24,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 24,
    },
    "VideoPrism": {
        **_SMALL,
        "num_frames": FRAMES,
        "image_size": SIDE,
        "tubelet_size": [1, 8, 8],
        "num_spatial_layers": 1,
        "num_temporal_layers": 1,
    },
    "Timesformer": {**_SMALL, **_DEEP, "patch_size": 8},
    "Vivit": {**_SMALL, **_DEEP, "tubelet_size": [2, 8, 8]},
}
"""By what their classes begin with."""

_CONFIG = {"VideoPrism": "VideoPrismVisionConfig"}
_BASE = {"VideoPrism": "VideoPrismVisionModel"}
CLASSIFIER = "ForVideoClassification"


def network(family: str, end: str = CLASSIFIER, classes: Any = None, **more: Any) -> Any:
    """A network of transformers in eval mode, no tensor of it at its initial value."""
    import transformers

    labels = {} if classes is None else {"id2label": dict(enumerate(classes))}
    config = getattr(transformers, _CONFIG.get(family, f"{family}Config"))(
        **{**SETTINGS[family], **labels, **more}
    )
    name = _BASE.get(family, f"{family}Model") if end == "Model" else f"{family}{end}"
    torch.manual_seed(0)
    made = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def saved(place: Path, family: str, end: str = CLASSIFIER, **more: Any) -> Path:
    """The folder of such a network."""
    network(family, end, **more).save_pretrained(place)
    return place
