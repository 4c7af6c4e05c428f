"""The values of the recipes of action detection; see `published`."""

from __future__ import annotations

from typing import Any

AVA = {  # model: frames, stride, least score of a box, short side of the test
    "slowonly-r50": (4, 16, 0.9, 256),
    "slowfast-r50-8x8": (32, 2, 0.8, None),
}
SHORT = {
    "task": "detect",
    "data.size": 224,  # TRAIN_CROP_SIZE
    "data.jitter": (256, 320),
    "data.interpolation": "bilinear",
    "data.flip": True,
    "data.batch_size": 8,  # 64 on 8 GPUs
    "data.fit": "whole",
    "train.epochs": 20,
    "train.optimizer": "sgd",
    "train.momentum": 0.9,
    "train.lr": 0.1,
    "train.lr_batch": 64,
    "train.weight_decay": 1e-7,
    "train.schedule": "step",
    "train.lr_gamma": 0.1,
    "train.warmup_epochs": 5,
    "train.warmup_lr": 0.000125,
    "train.dropout": 0.5,
    "train.seed": 0,
    "detect.kind": "multi",
    "detect.stride": 16,
    "detect.resolution": 7,
    "detect.aligned": True,
    "detect.time": "mean",
    "eval.every": 5,
}
S3D = {"task": "detect", "model": "s3d-g", "data.frames": 20, "detect.time": "mean"}
S3D_GUESSED = {
    "data.stride": 1,
    "data.size": 320,  # 320 x 400 there
    "data.min_area": 1.0,
    "data.flip": "auto",
    "data.batch_size": 8,
    "data.fit": "letterbox",
    "train.optimizer": "sgd",
    "train.momentum": 0.9,
    "train.lr": 0.02,
    "train.lr_batch": 64,
    "train.weight_decay": 1e-7,
    "train.schedule": "step",
    "train.lr_gamma": 0.1,
    "train.warmup_epochs": 0.5,
    "train.dropout": 0.5,
    "train.select": "last",
    "detect.kind": "single",
    "detect.layer": "Mixed_4e",
    "detect.stride": "own",
    "detect.resolution": 7,
    "detect.aligned": True,
    "detect.protocol": "act",
    "eval.every": 1,
}
S3D_LENGTHS = {"jhmdb": (20, [12, 16]), "ucf101-24": (5, [3, 4])}

PUBLISHED: dict[str, dict[str, Any]] = {
    **{
        f"finetune/{model}_ava": {
            **SHORT,
            "model": model,
            "data.frames": frames,
            "data.stride": stride,
            "detect.min_score": score,
            **({"train.lr_steps": [10, 15]} if model == "slowonly-r50" else {}),
        }
        for model, (frames, stride, score, _) in AVA.items()
    },
    **{f"finetune/s3d-g_{name}": S3D for name in S3D_LENGTHS},
}
GUESSED: dict[str, dict[str, Any]] = {
    "finetune/slowonly-r50_ava": {"train.select": "last"},
    "finetune/slowfast-r50-8x8_ava": {"train.select": "last", "train.lr_steps": [10, 15]},
    **{
        f"finetune/s3d-g_{name}": {
            **S3D_GUESSED,
            "train.epochs": epochs,
            "train.lr_steps": steps,
        }
        for name, (epochs, steps) in S3D_LENGTHS.items()
    },
}
FIGURES = {
    "finetune/slowonly-r50_ava": "19.5",
    "finetune/slowfast-r50-8x8_ava": "24.67",
    "finetune/s3d-g_jhmdb": "75.2",
    "finetune/s3d-g_ucf101-24": "78.8",
}
VIEWS = {
    **{f"finetune/{model}_ava": (1, 1, side, None) for model, (_, _, _, side) in AVA.items()},
    **{f"finetune/s3d-g_{name}": (1, 1, None, None) for name in S3D_LENGTHS},
}
_SLOWFAST = "facebookresearch/SlowFast, configs/AVA/"
SOURCES = {
    "finetune/slowonly-r50_ava": f"{_SLOWFAST}SLOW_8x8_R50_SHORT.yaml",
    "finetune/slowfast-r50-8x8_ava": f"{_SLOWFAST}SLOWFAST_32x2_R50_SHORT.yaml",
    **{f"finetune/s3d-g_{name}": "S3D (Xie et al., ECCV 2018)" for name in S3D_LENGTHS},
}
