"""What papers and their code say of the recipes for vision transformers; see `published`."""

from __future__ import annotations

from typing import Any

TIMESFORMER = {
    "data.interpolation": "bilinear",  # F.interpolate
    "eval.average": "logits",
    "train.select": "last",
    "data.grayscale": 0,
    "data.mixup": 0,
    "data.cutmix": 0,
    "train.optimizer": "sgd",
    "train.momentum": 0.9,
    "train.lr": 0.005,
    "train.lr_batch": 64,
    "train.epochs": 15,
    "train.schedule": "step",
    "train.lr_steps": [11, 14],
    "train.lr_gamma": 0.1,
    "train.warmup_epochs": 0,
    "train.weight_decay": 1e-4,
    "train.decay_all": True,
    "train.drop_path": 0.1,
    "train.dropout": 0,
    "train.label_smoothing": 0,
    "train.clip_grad": None,
}
TIMESFORMERS = {
    # preset: model, frames, stride (None: uniform), size, short sides, clips of a GPU, top-1
    "timesformer-b16_k400": ("timesformer-b16", 8, 32, 224, (256, 320), 8, "77.9"),
    "timesformer-b16-hr_k400": ("timesformer-b16-hr", 16, 16, 448, (448, 512), 1, "79.6"),
    "timesformer-b16_k400-96f": ("timesformer-b16", 96, 4, 224, (256, 320), 1, "80.6"),
    "timesformer-b16_ssv2": ("timesformer-b16", 8, None, 224, (256, 320), 8, "59.1"),
    "timesformer-b16-hr_ssv2": ("timesformer-b16-hr", 16, None, 448, (448, 512), 1, "61.8"),
    "timesformer-b16_ssv2-64f": ("timesformer-b16", 64, None, 224, (256, 320), 1, "62.0"),
}
DIST = {
    "data.sampling": "uniform",
    "data.size": 224,
    "data.crop_pct": 1,
    "data.min_area": 0.4,
    "data.jitter": None,
    "data.randaug": "",
    "data.color_jitter": 0,
    "data.grayscale": 0.2,
    "data.erasing": 0,
    "data.mixup": 0.8,
    "data.cutmix": 1,
    "train.optimizer": "adamw",
    "train.betas": (0.9, 0.999),
    "train.lr": 3.2e-4,
    "train.lr_batch": 256,
    "train.epochs": 36,
    "train.schedule": "cosine",
    "train.by_epoch": True,
    "train.min_lr": 0,
    "train.warmup_epochs": 6,
    "train.warmup_lr": 8e-7,
    "train.weight_decay": 1e-4,
    "train.decay_all": False,
    "train.label_smoothing": 0.1,
    "train.drop_path": 0,
    "train.clip_grad": None,
    "train.ema": 0,
    "data.interpolation": "bilinear",  # torchvision's transforms of videos
    "text.model": "auto",
    "text.templates": "raw",
}
DISTS = {  # preset: frames of a clip, clips of a GPU, how clips are mirrored, top-1
    "dist-b16_ssv2": (16, 32, "swap", "68.7"),
    "dist-b16_k400": (16, 32, True, "83.6"),
    "dist-l14_ssv2": (64, 4, "swap", "73.1"),
    "dist-l14_k400": (64, 4, True, "88.0"),
}
VIDEOMAE = {
    "data.frames": 16,
    "data.size": 224,
    "data.min_area": 0.08,
    "data.repeats": 2,
    "data.randaug": "rand-m7-n4-mstd0.5-inc1",
    "data.erasing": 0.25,
    "data.mixup": 0.8,
    "data.cutmix": 1,
    "train.optimizer": "adamw",
    "train.betas": (0.9, 0.999),
    "train.lr": 5e-4,
    "train.lr_batch": 2 * 256,  # the rate is for 256 videos, of each of which there are two clips
    "train.warmup_epochs": 5,
    "train.warmup_lr": 1e-6,
    "train.weight_decay": 0.05,
    "train.decay_all": False,
    "train.label_smoothing": 0.1,
    "train.clip_grad": None,
}
VIDEOMAE |= {"train.schedule": "cosine", "data.interpolation": "bilinear"}
DENSE = {"data.stride": 4, "data.sampling": "dense", "data.flip": True, "data.short": "hold"}

PUBLISHED: dict[str, dict[str, Any]] = {
    "finetune/c2d-vit_base_patch16_224_k400": {
        **VIDEOMAE,
        **DENSE,
        "data.batch_size": 6 * 2,
        "train.epochs": 75,
        "train.min_lr": 1e-6,
        "train.layer_decay": 0.75,
        "train.drop_path": 0.1,
        "train.dropout": 0,
    },
    "finetune/timesformer-vit_base_patch16_224_ssv2": {
        **VIDEOMAE,
        "data.sampling": "uniform",
        "data.steps": "whole",
        "data.flip": False,
        "data.batch_size": 6 * 2,
        "train.epochs": 30,
        "train.min_lr": 1e-6,
        "train.layer_decay": 0.75,
        "train.drop_path": 0.1,
        "train.dropout": 0,
    },
    **{
        f"finetune/{name}": {
            **TIMESFORMER,
            "model": model,
            "data.frames": frames,
            "data.stride": stride,
            "data.sampling": "uniform" if stride is None else "dense",
            "data.size": size,
            "data.jitter": jitter,
            "data.crop_pct": size / jitter[0],
            "data.steps": "linspace",
            "data.fps": 30,
            "data.short": None if stride is None else "hold",
            "data.channels": "bgr" if stride is None else None,
            "eval.start": "center" if stride is None else "first",
            "data.flip": stride is not None,
            "data.batch_size": clips,
            "train.accumulate": 8 // clips,
        }
        for name, (model, frames, stride, size, jitter, clips, _) in TIMESFORMERS.items()
    },
    **{
        f"finetune/{name}": {
            **DIST,
            "model": name.partition("_")[0],
            "data.frames": frames,
            "data.flip": flip,
            "data.batch_size": clips,
            "train.accumulate": 32 // clips,
        }
        for name, (frames, clips, flip, _) in DISTS.items()
    },
    "cotrain/timesformer-b16_videos-images": {
        **TIMESFORMER,
        "data.frames": 8,
        "data.stride": 32,
        "data.sampling": "dense",
        "data.size": 224,
        "data.crop_pct": 0.875,
        "data.jitter": (256, 320),
        "data.short": "hold",
        "data.steps": "linspace",
        "data.fps": 30,
        "eval.start": "first",
        "data.flip": "auto",
        "data.batch_size": 8,
    },
    "finetune/c2d-vit_base_patch16_224_ucf101": {
        **VIDEOMAE,
        **DENSE,
        "data.batch_size": 16 * 2,
        "train.epochs": 100,
        "train.warmup_lr": 1e-8,
        "train.min_lr": 1e-5,
        "train.layer_decay": 0.7,
        "train.drop_path": 0.2,
        "train.dropout": 0.5,
    },
}
FIGURES = {
    **{f"finetune/{name}": values[-1] for name, values in (TIMESFORMERS | DISTS).items()},
    "finetune/timesformer-vit_base_patch16_224_ssv2": "70.8",
    "cotrain/timesformer-b16_videos-images": "2.4",
    "finetune/c2d-vit_base_patch16_224_k400": "81.5",
    "finetune/c2d-vit_base_patch16_224_ucf101": "91.3",
}
VIEWS = {
    **{n: (5, 3, None, 1.0) for n in PUBLISHED if "c2d-vit_base" in n},
    **{f"finetune/{n}": (1, 3, None, None) for n in TIMESFORMERS},
    **{f"finetune/{n}": (3, 1, None, None) for n in DISTS},
    "finetune/timesformer-vit_base_patch16_224_ssv2": (2, 3, None, None),
    "cotrain/timesformer-b16_videos-images": (1, 3, None, None),
}

TIMESFORMER_FILES = {  # in configs/
    "timesformer-b16_k400": "Kinetics/TimeSformer_divST_8x32_224.yaml",
    "timesformer-b16-hr_k400": "Kinetics/TimeSformer_divST_16x16_448.yaml",
    "timesformer-b16_k400-96f": "Kinetics/TimeSformer_divST_96x4_224.yaml",
    "timesformer-b16_ssv2": "SSv2/TimeSformer_divST_8_224.yaml",
    "timesformer-b16-hr_ssv2": "SSv2/TimeSformer_divST_16_448.yaml",
    "timesformer-b16_ssv2-64f": "SSv2/TimeSformer_divST_64_224.yaml",
}
DIST_FILES = {  # in configs/projects/dist/
    "dist-b16_k400": "k400/vit-b16-8+16f.yaml",
    "dist-b16_ssv2": "ssv2/vit-b16-8+16f.yaml",
    "dist-l14_k400": "k400/vit-l14-32+64f.yaml",
    "dist-l14_ssv2": "ssv2/vit-l14-32+64f.yaml",
}
VIDEOMAE_FILES = {  # finetune.sh in scripts/
    "c2d-vit_base_patch16_224_k400": "kinetics/videomae_vit_base_patch16_224_tubemasking_",
    "c2d-vit_base_patch16_224_ucf101": "ucf101/videomae_vit_base_patch16_224_tubemasking_",
    "timesformer-vit_base_patch16_224_ssv2": "ssv2/videomae_vit_base_patch16_224_tubemasking_",
}
SOURCES = {
    **{
        f"finetune/{name}": f"facebookresearch/TimeSformer, configs/{file}"
        for name, file in TIMESFORMER_FILES.items()
    },
    **{
        f"finetune/{name}": f"alibaba-mmai-research/DiST, configs/projects/dist/{file}"
        for name, file in DIST_FILES.items()
    },
    **{
        f"finetune/{name}": f"MCG-NJU/VideoMAE, finetune.sh in scripts/{file}"
        for name, file in VIDEOMAE_FILES.items()
    },
    "cotrain/timesformer-b16_videos-images": (
        "facebookresearch/TimeSformer, configs/Kinetics/TimeSformer_divST_8x32_224.yaml"
    ),
}
KEPT = {"train.select": "last"}
GUESSED: dict[str, dict[str, Any]] = {
    **{f"finetune/{name}": KEPT for name in DISTS},
    "finetune/c2d-vit_base_patch16_224_k400": {
        **KEPT,
        "model": "c2d-vit_base_patch16_224",
        "data.steps": "linspace",  # 64/15 apart there, 63/15 here
    },
    "finetune/c2d-vit_base_patch16_224_ucf101": {
        **KEPT,
        "model": "c2d-vit_base_patch16_224",
        "data.steps": "linspace",
    },
    "finetune/timesformer-vit_base_patch16_224_ssv2": {
        **KEPT,
        "model": "timesformer-vit_base_patch16_224",
    },
    # CoVeR's own are not known, none of them: these are its nearest neighbor's.
    "cotrain/timesformer-b16_videos-images": {"model": "timesformer-b16"},
}
