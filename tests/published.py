"""What the papers and their code say of the recipes, and what of the presets is a guess.

`PUBLISHED` holds official values, read in the file that `SOURCES` names. `GUESSED` holds those that
no source gives. Together they have every value that a preset sets, but for `OURS`.
"""

from __future__ import annotations

from typing import Any

import published_adapters as adapters
import published_detection as detection
import published_transformers as transformers

STS_K400 = {
    # model: lr, its batch, epochs, frames, stride, size, short side, precise BN, decay of norms
    "sts-r3d50": (0.02, 128, 50, 8, 8, 224, 256, 200, True),
    "sts-slowfast-r50-4x16": (0.01, 128, 50, 32, 2, 224, 256, 200, True),
    "sts-slowfast-r50-8x8": (0.01, 128, 50, 32, 2, 224, 256, 200, True),
    "sts-r2plus1d-34": (0.01, 64, 50, 8, 8, 224, 256, 200, True),
    "sts-ir-csn-50": (0.01, 128, 50, 32, 2, 224, 256, 0, True),
    "sts-x3d-s": (0.02, 256, 100, 13, 6, 160, 192, 200, False),
}
STS_FILES = {  # in Spatiotemporal_Finetuning/configs/recognition/
    "sts-r3d50_k400": "slowonly/slowonly50_8x8_STS_k400_video.py",
    "sts-slowfast-r50-4x16_k400": "slowfast/slowfast50_4x16_32x2_STS_k400_video.py",
    "sts-slowfast-r50-8x8_k400": "slowfast/slowfast50_8x8_32x2_STS_k400_video.py",
    "sts-r2plus1d-34_k400": "r2plus1d/r2plus1d_r34_8x8_STS_k400_video.py",
    "sts-ir-csn-50_k400": "csn/ircsn50_32x2_STS_k400_video.py",
    "sts-x3d-s_k400": "x3d/x3d_s_13x6_STS_k400_video.py",
    "sts-r3d50_ssv2": "slowonly/slowonly50_1x8_STS_sthv2_video.py",
    "sts-slowfast-r50-4x16_ssv2": "slowfast/slowfast50_4x16_1x32_STS_sthv2_video.py",
    "sts-r2plus1d-34_ssv2": "r2plus1d/r2plus1d_r34_1x8_STS_sthv2_video.py",
    "sts-ir-csn-50_ssv2": "csn/ircsn50_1x8_STS_sthv2_video.py",
    "sts-x3d-s_ssv2": "x3d/x3d_s_1x8_STS_sthv2_video.py",
}
A2 = {  # preset: script in Image_Pre_Training/scripts/, top-1
    "slowonly-r50": ("slowonly/distributed_train.sh", "79.9"),
    "plain-slowfast-r50-4x16": ("slowfast/distributed_4x16train.sh", "79.9"),
    "plain-slowfast-r50-8x8": ("slowfast/distributed_8x8train.sh", "79.1"),
    "plain-r2plus1d-34": ("r2plus1d/distributed_train.sh", "79.6"),
    "plain-ir-csn-50": ("csn/distributed_train.sh", "78.8"),
    "plain-x3d-s": ("x3d/distributed_train.sh", "74.8"),
}
STS_SSV2 = {  # model: frames
    "sts-r3d50": 8,
    "sts-slowfast-r50-4x16": 32,
    "sts-r2plus1d-34": 8,
    "sts-ir-csn-50": 8,
    "sts-x3d-s": 8,
}
STS = {
    "data.steps": "whole",  # SampleFrames
    "data.interpolation": "bilinear",  # Resize
    "train.select": "last",
    "data.min_area": 0.08,
    "data.jitter": None,
    "data.color_jitter": 0,
    "data.mixup": 0,
    "data.cutmix": 0,
    "train.optimizer": "sgd",
    "train.momentum": 0.9,
    "train.weight_decay": 1e-4,
    "train.schedule": "cosine",
    "train.min_lr": 0,
    "train.by_epoch": True,
    "train.warmup_epochs": 5,
    "train.clip_grad": 40,
    "train.loss": "ce",
    "train.label_smoothing": 0,
    "train.dropout": 0.5,
    "eval.clips": 1,
    "eval.crops": 1,
}
DISTINIT = {
    "data.size": 112,
    "data.sampling": "dense",
    "train.optimizer": "sgd",
    "train.momentum": 0.9,
    "train.schedule": "step",
    "train.label_smoothing": 0,
    "train.clip_grad": None,
}
PRETRAINING = {
    **DISTINIT,
    "data.batch_size": 24,
    "train.lr": 0.01,
    "train.lr_gamma": 0.1,
    "train.epochs": 150,  # 45 x 1,000,000 clips of 300,000 videos, as the steps
    "train.lr_steps": [33.3, 66.7, 100, 133.3],
    "distill.teachers": ["imagenet"],
    "distill.picks": 1,
    "distill.view": "clip",
    "distill.temperature": 1,
}
VMZ_CROPS = {  # of VMZ's scripts, where the paper's are lost
    "data.stride": 1,
    "data.jitter": (128, 128),
    "data.crop_pct": 0.875,
    "data.decode_side": 128,
    "data.interpolation": "bilinear",
}
LOST = {
    **VMZ_CROPS,
    "train.lr_batch": None,
    "train.weight_decay": 1e-4,
    "train.warmup_epochs": 0,
    "distill.size": "own",
    "train.select": "last",
}
PER_CONV = ["midplanes=per_conv"]
HMDB = {**DISTINIT, "data.split": 1}
HMDB_LOST = {
    **VMZ_CROPS,
    "train.lr_batch": 32,
    "train.weight_decay": 0.005,
    "train.lr_gamma": 0.1,
    "train.warmup_epochs": 0,
    "train.select": "last",
}

IMAGE_PRETRAINING = {  # the arguments of all six scripts, and A2's batch
    "data.frames": 1,
    "data.stride": 1,
    "data.interpolation": "bicubic",
    "data.size": 224,
    "data.crop_pct": 0.95,
    "data.min_area": 0.08,
    "data.flip": True,
    "data.repeats": 3,
    "data.randaug": "rand-m7-mstd0.5-inc1",
    "data.mixup": 0.1,
    "data.cutmix": 1,
    "data.color_jitter": 0,
    "data.erasing": 0,
    "train.optimizer": "lamb",
    "train.betas": (0.9, 0.999),
    "train.lr": 5e-3,
    "train.weight_decay": 0.02,
    "train.decay_all": False,
    "train.schedule": "cosine",
    "train.min_lr": 1e-6,
    "train.warmup_lr": 5e-6,
    "train.loss": "bce",
    "train.label_smoothing": 0,
    "train.dropout": 0,
    "train.drop_path": 0.05,
    "train.clip_grad": 1,
    "train.ema": 0,
    "train.seed": 0,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    **transformers.PUBLISHED,
    **adapters.PUBLISHED,
    **detection.PUBLISHED,
    **{
        f"finetune/{model}_k400": {
            **STS,
            "model": model,
            "train.lr": lr,
            "train.lr_batch": batch,
            "train.warmup_lr": lr / 10,
            "train.epochs": epochs,
            "train.precise_bn": precise,
            "train.decay_all": decay,
            "data.frames": frames,
            "data.stride": stride,
            "data.sampling": "dense",
            "data.size": size,
            "data.decode_side": side,
            "data.crop_pct": 0.8333 if model == "sts-x3d-s" else 0.875,
            "data.batch_size": 32 if model == "sts-x3d-s" else 16,
            "data.flip": True,
        }
        for model, (lr, batch, epochs, frames, stride, size, side, precise, decay) in (
            STS_K400.items()
        )
    },
    **{
        f"finetune/{model}_ssv2": {
            **STS,
            "model": model,
            "train.lr": 0.1,
            "train.lr_batch": 64,
            "train.warmup_lr": 0.01,
            "train.epochs": 50,
            "train.precise_bn": 0,
            "train.decay_all": True,
            "data.frames": frames,
            "data.sampling": "uniform",
            "data.size": 224,
            "data.decode_side": 256,
            "data.crop_pct": 0.875,
            "data.batch_size": 8,
            "data.flip": False,
        }
        for model, frames in STS_SSV2.items()
    },
    **{
        f"finetune/{model}_in1k": {
            **IMAGE_PRETRAINING,
            "model": model,
            # Their SlowFast and X3D ignore the argument.
            "train.drop_path": 0 if "slowfast" in model or "x3d" in model else 0.05,
        }
        for model in A2
    },
    "finetune/s3d_k400": {
        "model": "s3d",
        "data.frames": 64,
        "data.stride": 1,
        "data.sampling": "dense",
        "data.size": 224,
        "data.batch_size": 6,
        "train.optimizer": "sgd",
        "train.momentum": 0.9,
        "train.lr": 0.1,
        "train.lr_batch": 56 * 6,
        "train.weight_decay": 1e-7,
        "train.dropout": 0.2,
        "train.schedule": "step",
        "train.lr_gamma": 0.1,
        "train.warmup_epochs": 0,
        "train.label_smoothing": 0,
        "train.clip_grad": None,
        "train.epochs": 112,  # 80,000 x 336 clips of 240,436 videos
        "train.lr_steps": [83.8, 97.8],
    },
    "distill/r2plus1d-18_kinetics": {
        **PRETRAINING,
        "model": "r2plus1d-18",
        "options": PER_CONV,
        "data.frames": 8,
    },
    "distill/r3d-18_kinetics": {**PRETRAINING, "model": "r3d-18", "data.frames": 8},
    "distill/r2plus1d-18_kinetics-32f": {
        **PRETRAINING,
        "model": "r2plus1d-18",
        "options": PER_CONV,
        "data.frames": 32,
    },
    "distill/r2plus1d-18_kinetics-vmz": {
        **DISTINIT,
        "model": "r2plus1d-18",
        "options": [*PER_CONV, "bn_eps=0.001"],
        "data.frames": 8,
        "data.stride": 1,  # compute_clips(num_frames, 1, frame_rate=15)
        "data.fps": 15,
        "data.batch_size": 24,
        "data.flip": "auto",
        "data.crop_pct": 0.875,
        "train.lr": 0.01,
        "train.lr_batch": 24,  # lr * world_size
        "train.lr_gamma": 0.1,
        "train.weight_decay": 1e-4,
        "train.epochs": 45 * 5,  # train_bs_multiplier clips of a video are an epoch
        "train.lr_steps": [20 * 5, 30 * 5, 40 * 5],
        "train.warmup_epochs": 10 * 5,
        "train.warmup_lr": 0.01 * 1e-5,
        "distill.teachers": ["imagenet"],
        "distill.picks": 1,
        "distill.view": "clip",
        "distill.temperature": 1,
    },
    **{
        f"finetune/{name}": {
            **HMDB,
            "model": name.partition("_")[0],
            "data.frames": 32 if name.endswith("32f") else 8,
            "train.lr": 0.01 if name.endswith("scratch") else 0.002,
            "train.epochs": 504 if name.endswith("scratch") else 90,
        }
        for name in (
            "r2plus1d-18_hmdb51",
            "r3d-18_hmdb51",
            "r2plus1d-18_hmdb51-32f",
            "r2plus1d-18_hmdb51-scratch",
            "r3d-18_hmdb51-scratch",
        )
    },
    "finetune/r2plus1d-18_ucf101-32f": {
        **DISTINIT,
        "model": "r2plus1d-18",
        "data.split": 1,
        "data.frames": 32,
        "train.lr": 0.0001 * 8,
        "train.lr_batch": 4 * 8,
        "train.weight_decay": 0.005,
        "train.epochs": 84,  # 8 x 100,000 clips of 9,537 videos
        "train.lr_steps": [21, 42, 63],
    },
    "finetune/sts-r3d50_small": {
        "train.lr": 1e-3,
        "train.lr_batch": 2 * 256,
        "train.weight_decay": 0.05,
        "train.warmup_epochs": 5,
        "train.min_lr": 1e-6,
        "train.layer_decay": 0.7,
        "train.drop_path": 0.2,
        "train.dropout": 0.5,
        "train.label_smoothing": 0.1,
        "data.flip": "auto",
    },
    "cotrain/r3d50_videos-images": {
        "train.lr": 0.1,
        "train.lr_batch": 8 * 16,
        "data.batch_size": 16,
        "train.epochs": 256,
        "train.warmup_epochs": 34,
        "train.schedule": "cosine",
        "train.weight_decay": 1e-4,
        "train.clip_grad": 40,
        "train.dropout": 0.5,
        "train.decay_all": True,
        "train.momentum": 0.9,
        "train.warmup_lr": 0.1 * 0.1,
        "train.by_epoch": False,
        "model": "r3d50",
        "data.frames": 8,
        "data.stride": 8,
        "data.sampling": "dense",
        "data.steps": "whole",
        "data.size": 224,
        "data.crop_pct": 0.875,
        "data.decode_side": 256,
        "data.min_area": 0.08,
        "data.interpolation": "bilinear",
        "data.flip": True,
        "train.optimizer": "sgd",
    },
}
FIGURES = {  # top-1 that the header has to name
    **transformers.FIGURES,
    **adapters.FIGURES,
    **detection.FIGURES,
    "cotrain/r3d50_videos-images": "77.3",
    "distill/r2plus1d-18_kinetics": "43.2",
    "distill/r2plus1d-18_kinetics-32f": "54.9",
    "distill/r3d-18_kinetics": "39.9",
    "finetune/r2plus1d-18_hmdb51": "43.2",
    "finetune/r2plus1d-18_hmdb51-32f": "54.9",
    "finetune/r2plus1d-18_hmdb51-scratch": "24.1",
    "finetune/r3d-18_hmdb51": "39.9",
    "finetune/r3d-18_hmdb51-scratch": "25.4",
    "finetune/s3d_k400": "72.2",
    **{f"finetune/{model}_in1k": figure for model, (_, figure) in A2.items()},
    "distill/r2plus1d-18_kinetics-vmz": "43.2",
    "finetune/r2plus1d-18_ucf101-32f": "85.8",
    "finetune/sts-ir-csn-50_k400": "76.8",
    "finetune/sts-ir-csn-50_ssv2": "61.4",
    "finetune/sts-r2plus1d-34_k400": "76.2",
    "finetune/sts-r2plus1d-34_ssv2": "63.0",
    "finetune/sts-r3d50_k400": "75.7",
    "finetune/sts-r3d50_ssv2": "62.7",
    "finetune/sts-slowfast-r50-4x16_k400": "76.2",
    "finetune/sts-slowfast-r50-4x16_ssv2": "57.2",
    "finetune/sts-slowfast-r50-8x8_k400": "77.2",
    "finetune/sts-x3d-s_k400": "73.9",
    "finetune/sts-x3d-s_ssv2": "58.3",
}
VIEWS = {  # clips, crops, data.size and data.crop_pct of the command that scores
    **transformers.VIEWS,
    **adapters.VIEWS,
    **detection.VIEWS,
    **{f"finetune/{m}_k400": (10, 3, 192 if m == "sts-x3d-s" else 256, 1.0) for m in STS_K400},
    **{f"finetune/{m}_ssv2": (1, 3, 256, 1.0) for m in STS_SSV2},
    "finetune/s3d_k400": (1, 1, None, None),
    **{f"finetune/{model}_in1k": (1, 1, None, None) for model in A2},
    **{
        n: ("dense", 1, None, None) if n.endswith("-32f") else (10, 1, None, None)
        for n in PUBLISHED
        if "_hmdb51" in n or "_ucf101-32f" in n
    },
    "cotrain/r3d50_videos-images": (10, 3, 256, 1.0),
}

VMZ_HMDB = "facebookresearch/VMZ, scripts/finetune_hmdb51.sh"
SOURCES = {  # what the header has to name
    **transformers.SOURCES,
    **adapters.SOURCES,
    **detection.SOURCES,
    **{
        f"finetune/{name}": f"UCSC-VLAA/Image-Pretraining-for-Video, {file}"
        for name, file in STS_FILES.items()
    },
    **{
        f"finetune/{model}_in1k": f"UCSC-VLAA/Image-Pretraining-for-Video, {file}"
        for model, (file, _) in A2.items()
    },
    "finetune/s3d_k400": "tensorflow/models, research/slim/nets/s3dg.py",
    **{n: "DistInit (Girdhar et al., ICCV 2019)" for n in PUBLISHED if n.startswith("distill/")},
    "distill/r2plus1d-18_kinetics-vmz": "facebookresearch/VMZ, pt/vmz/func/opts.py",
    **{n: VMZ_HMDB for n in PUBLISHED if "_hmdb51" in n},
    "finetune/r2plus1d-18_ucf101-32f": "facebookresearch/VMZ, scripts/finetune_ucf101.sh",
    "cotrain/r3d50_videos-images": (
        "open-mmlab/mmaction2, slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb.py"
    ),
}
GUESSED: dict[str, dict[str, Any]] = {  # no source gives these
    **transformers.GUESSED,
    **adapters.GUESSED,
    **detection.GUESSED,
    **{
        f"finetune/{model}_in1k": {
            "train.lr_batch": 2048,
            "data.batch_size": 255,  # 256, in threes
            "train.epochs": 100,  # 300, each image three times
            "train.warmup_epochs": 1.667,
            "train.select": "last",
        }
        for model in A2
    },
    "finetune/s3d_k400": {
        "data.short": "loop",
        "data.crop_pct": 0.875,
        "data.jitter": (256, 256),
        "data.decode_side": 256,
        "data.interpolation": "bilinear",
        "data.flip": True,
        "train.select": "last",
    },
    "distill/r2plus1d-18_kinetics": LOST,
    "distill/r3d-18_kinetics": LOST,
    "distill/r2plus1d-18_kinetics-32f": LOST,
    "distill/r2plus1d-18_kinetics-vmz": {
        "data.jitter": (128, 128),  # 128 x 174 there
        "data.decode_side": 128,
        "data.interpolation": "bilinear",
        "distill.size": "own",
        "train.select": "last",
    },
    **{
        n: {
            **HMDB_LOST,
            "data.batch_size": 8 if n.endswith("-32f") else 32,  # 4 on each of 8 GPUs there
            "train.lr_steps": [112, 224, 336, 448] if "scratch" in n else [22.4, 44.8, 67.2],
        }
        for n in PUBLISHED
        if "_hmdb51" in n
    },
    "finetune/r2plus1d-18_ucf101-32f": {
        **VMZ_CROPS,
        "data.batch_size": 8,
        "train.lr_gamma": 0.1,
        "train.warmup_epochs": 0,
        "train.select": "last",
    },
    "cotrain/r3d50_videos-images": {"train.select": "last"},
}
GUESSED["finetune/r2plus1d-18_hmdb51-scratch"]["options"] = PER_CONV
OURS = {"eval.clips": 1, "eval.crops": 1}
"""Views of the evaluations while training, which decide nothing: the last epoch is kept."""
UNPUBLISHED = ("finetune/sts-r3d50_small",)
"""Recipes of ours, in part with values of papers."""
