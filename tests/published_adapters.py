"""What papers and their code say of the recipes for frozen transformers; see `published`."""

from __future__ import annotations

from typing import Any

NONE = {
    "data.color_jitter": 0,
    "data.mixup": 0,
    "data.cutmix": 0,
    "data.size": 224,
    "train.optimizer": "adamw",
    "train.betas": (0.9, 0.999),
    "train.schedule": "cosine",
    "train.min_lr": 0,
    "train.clip_grad": None,
    "train.ema": 0,
    "train.layer_decay": None,
    "train.accumulate": 1,
}
ST_ADAPTER = {
    **NONE,
    "model": "st-adapter-b16",
    "data.frames": 8,
    "data.batch_size": 64,
    "train.lr": 1e-3,
    "train.lr_batch": 256,
    "train.weight_decay": 0.01,
    "train.decay_all": False,
    "train.warmup_epochs": 2,
    "train.warmup_lr": 0,
    "train.dropout": 0.5,
    "train.drop_path": 0,
    "train.label_smoothing": 0,
}
MMACTION = {  # AIM's and ZeroI2V's code
    **NONE,
    "data.min_area": 0.08,
    "data.grayscale": 0,
    "train.lr": 3e-4,
    "train.lr_batch": 64,
    "train.weight_decay": 0.05,
    "train.warmup_epochs": 2.5,
    "train.warmup_lr": 3e-5,
    "train.dropout": 0.5,
    "train.by_epoch": True,
}
AIM = {**MMACTION, "model": "aim-b16", "data.batch_size": 8, "train.drop_path": 0.2}
ZERO = {**MMACTION, "model": "zero-cost-b16", "train.drop_path": 0}
SIDE = {
    **NONE,
    "model": "side4video-b16",
    "data.frames": 8,
    "data.sampling": "uniform",
    "data.erasing": 0,
    "data.batch_size": 32,
    "train.lr": 1e-3,
    "train.lr_batch": 256,
    "train.epochs": 30,
    "train.weight_decay": 0.15,
    "train.decay_all": True,
    "train.warmup_epochs": 4,
    "train.label_smoothing": 0.1,
    "train.dropout": 0,
    "train.drop_path": 0,
}
DENSE_8X16 = {
    "data.frames": 8,
    "data.stride": 16,
    "data.sampling": "dense",
    "data.flip": True,
    "data.erasing": 0,
}
STRONG = {
    "data.sampling": "uniform",
    "data.randaug": "rand-m7-n4",
    "data.erasing": 0.25,
    "train.label_smoothing": 0.1,
    "train.epochs": 50,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "finetune/st-adapter-b16_k400": {
        **ST_ADAPTER,
        **DENSE_8X16,
        "data.short": "hold",
        "data.jitter": (224, 258),
        "data.randaug": "",
        "train.epochs": 12,
    },
    "finetune/st-adapter-b16_ssv2": {
        **ST_ADAPTER,
        "data.sampling": "uniform",
        "data.steps": "linspace",
        "data.min_area": 0.08,
        "data.flip": False,
        "data.randaug": "rand-m7-n4-mstd0.5-inc1",
        "train.epochs": 50,
    },
    "finetune/aim-b16_k400": {
        **AIM,
        **DENSE_8X16,
        "data.randaug": "",
        "train.label_smoothing": 0,
        "train.epochs": 30,
    },
    "finetune/aim-b16_ssv2": {**AIM, **STRONG, "data.frames": 8, "data.flip": False},
    "finetune/aim-b16_diving48": {
        **AIM,
        "data.frames": 32,
        "data.sampling": "uniform",
        "data.flip": True,
        "data.randaug": "",
        "train.label_smoothing": 0,
        "train.epochs": 50,
    },
    "finetune/zero-cost-b16_k400": {
        **ZERO,
        **DENSE_8X16,
        "data.randaug": "rand-m7-n4",
        "data.batch_size": 8,
        "train.label_smoothing": 0,
        "train.epochs": 40,
    },
    "finetune/zero-cost-b16_ssv2": {
        **ZERO,
        **STRONG,
        "data.frames": 16,
        "data.flip": "swap",
        "data.batch_size": 4,
    },
    "finetune/side4video-b16_k400": {
        **SIDE,
        "data.flip": True,
        "data.grayscale": 0.2,
        "data.randaug": "",
        "data.repeats": 1,
    },
    "finetune/side4video-b16_ssv2": {
        **SIDE,
        "data.flip": "swap",
        "data.grayscale": 0,
        "data.randaug": "rand-m7-n4-mstd0.5-inc1",
        "data.repeats": 2,
    },
}
FIGURES = {
    "finetune/st-adapter-b16_k400": "82.2",
    "finetune/st-adapter-b16_ssv2": "66.9",
    "finetune/aim-b16_k400": "83.9",
    "finetune/aim-b16_ssv2": "66.4",
    "finetune/aim-b16_diving48": "88.9",
    "finetune/zero-cost-b16_k400": "83.0",
    "finetune/zero-cost-b16_ssv2": "67.7",
    "finetune/side4video-b16_k400": "83.6",
    "finetune/side4video-b16_ssv2": "70.6",
}
VIEWS = {
    **{
        n: (4 if "side4" in n else 3, 3 if "side4" in n else 1, None, None)
        for n in PUBLISHED
        if n.endswith("_k400")
    },
    **{n: (1, 3, None, None) for n in PUBLISHED if n.endswith("_ssv2")},
    "finetune/side4video-b16_ssv2": (2, 3, None, None),
    "finetune/aim-b16_diving48": (1, 1, None, None),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "finetune/st-adapter-b16_k400": {"places": "mlp"},
    "finetune/aim-b16_ssv2": {"scale": 1, "time_adapters": 2},
    "finetune/zero-cost-b16_ssv2": {"scale": 1, "dropout": 0, "shift": "-1:1,+1:1,-2:1,+2:1"},
    "finetune/side4video-b16_k400": {"fusion": "none"},
    "finetune/side4video-b16_ssv2": {"fusion": "none"},
}
"""Options of the models, which the headers' first commands give; none in the others."""
SOURCES = {
    "finetune/st-adapter-b16_k400": "scripts/train_k400_clip_vit_b16_adapter12x384.sh",
    "finetune/st-adapter-b16_ssv2": "scripts/train_ssv2_clip_vit_b16_adapter24x384.sh",
    **{n: "taoyang1122/adapt-image-models, configs/" for n in PUBLISHED if "/aim" in n},
    "finetune/zero-cost-b16_k400": "configs/recognition/vit_zero_clip/CLIP-B_k400_8x16x1.py",
    "finetune/zero-cost-b16_ssv2": "configs/recognition/vit_zero_clip/CLIP-B_sthv2_u16.py",
    "finetune/side4video-b16_k400": "k400_train_rgb_vitb-16-f8-side4video.yaml",
    "finetune/side4video-b16_ssv2": "sthv2_train_rgb_vitb-16-side4video.yaml",
}
KEPT = {"train.select": "last"}
MMACTION_GUESSES = {
    **KEPT,
    "data.interpolation": "bilinear",
    "data.decode_side": 256,
    "data.crop_pct": 1.0,
}
GUESSED: dict[str, dict[str, Any]] = {
    "finetune/st-adapter-b16_k400": {**KEPT, "data.crop_pct": 1.0},
    "finetune/st-adapter-b16_ssv2": {**KEPT, "data.crop_pct": 1.0},
    **{n: MMACTION_GUESSES for n in PUBLISHED if "/aim" in n or "/zero" in n},
    **{
        n: {
            **KEPT,
            "data.crop_pct": 0.875,
            "data.decode_side": 256,
            "data.min_area": 0.08,
            "train.warmup_lr": 0,
        }
        for n in PUBLISHED
        if "/side4" in n
    },
}
for _name in ("finetune/aim-b16_k400", "finetune/zero-cost-b16_k400"):
    GUESSED[_name] = {**GUESSED[_name], "data.steps": "whole"}
