from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support import MODEL, SMALL, json_of, logged, run_cli

import vidinit
from vidinit.data.sources import train_val
from vidinit.errors import UsageError
from vidinit.pipelines.cotrain import run
from vidinit.pipelines.cotrain.mixing import Mixture
from vidinit.pipelines.cotrain.settings import CotrainConfig, SourceConfig
from vidinit.pipelines.cotrain.source import Source, check_lengths, make_source
from vidinit.pipelines.shared.clips import check_split
from vidinit.zoo.spec import ClipSpec


def test_each_source_gets_its_steps_and_is_scored(motion_set, picture_set, tmp_path, capsys):
    run = tmp_path / "run"
    result = vidinit.cotrain(
        MODEL,
        sources=[f"motion={motion_set},share=0.25,flip=false"],
        images=[f"color={picture_set},batch_size=4"],
        out=run,
        overrides=[*SMALL, "train.log_every=1", "train.lr_batch=8"],
        epochs=3,
    )
    # An epoch is one pass over the first source: its 3 steps are a quarter.
    plan = {name: row["steps_per_epoch"] for name, row in result["sources"].items()}
    assert plan == {"motion": 3, "color": 9}
    assert result["sources"]["color"]["passes_per_epoch"] == pytest.approx(9 * 4 / 18)
    rows = logged(run)
    for epoch in (1, 2, 3):
        steps = [row for row in rows if row.get("epoch") == epoch and "loss" in row]
        assert sum("loss_motion" in row for row in steps) == 3
        assert sum("loss_color" in row for row in steps) == 9
    assert {"top1_motion", "top1_color"} <= set(rows[-1])
    assert result["best"] == max(row["top1_motion"] for row in rows if "top1_motion" in row)
    said = capsys.readouterr().err
    rate = "peak learning rate 0.005 (train.lr=0.01 x 4 / train.lr_batch=8)"
    assert f"motion: 4 clips a step (data.batch_size=4), {rate}\n" in said
    assert rows[0]["lr"] == pytest.approx(0.005), "the cosine's first step"


def make(motion_set, *, world: int = 1, **own: object) -> tuple[Source, CotrainConfig]:
    config = CotrainConfig(model=MODEL)
    config.data.batch_size, config.data.workers = 4, 0
    split = check_split(*train_val(motion_set), config.data, "motion")
    settings = SourceConfig(name="m", data=str(motion_set), **own)
    return make_source(settings, split, config, ClipSpec(4, 1, 32), world), config


def test_the_batch_of_the_primary_source_is_said_by_its_own_setting(motion_set):
    source, config = make(motion_set, world=2, batch_size=3, accumulate=2)
    line = run._batch_line(source, config, 2)
    assert line.startswith("m: 12 clips a step (sources.0.batch_size=3 x 2 processes x train"), line


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_run_takes_the_same_batches(motion_set, accumulate):
    """Batches of the second half of an epoch do not depend on who took the first half."""
    one, config = make(motion_set, accumulate=accumulate, share=0.4)
    other, _ = make(motion_set, batch_size=3)
    other.config.name = "n"
    mixed = Mixture([one, other], config)

    def taken(epoch: int, start: int) -> list[list[tuple[str, list[int]]]]:
        return [
            [(batch["source"], batch["index"].tolist()) for batch in group]
            for group in mixed.steps(epoch, start)
        ]

    whole = taken(1, 0)
    assert len(whole) == mixed.steps_per_epoch == sum(mixed.counts)
    assert [len(group) for group in whole if group[0][0] == "m"] == [accumulate] * mixed.counts[0]
    for start in (1, 4, len(whole) - 1):
        assert taken(1, start) == whole[start:]
    assert taken(0, 0) != whole
    seen = {i for group in taken(0, 0) for name, part in group if name == "m" for i in part}
    assert len(seen) == 4 * accumulate * mixed.counts[0], "no clip twice in a pass over them"


def test_all_sources_at_once_in_each_step(motion_set):
    one, config = make(motion_set)
    other, _ = make(motion_set, batch_size=3)
    other.config.name = "n"
    config.cotrain.schedule = "use_all"
    mixed = Mixture([one, other], config)
    groups = list(mixed.steps(0, 0))
    assert len(groups) == mixed.steps_per_epoch == 3
    for (batch,) in groups:
        assert [len(part["label"]) for part in batch["parts"].values()] == [4, 3]
        assert len(batch["skipped"]) == 7
    again = [part["index"].tolist() for part in next(mixed.steps(0, 2))[0]["parts"].values()]
    assert again == [part["index"].tolist() for part in groups[2][0]["parts"].values()]


def test_what_a_source_says_of_its_clips_is_its_own(motion_set):
    """Something-Something is not mirrored where Kinetics is; each has its own augmentation."""
    plain, config = make(motion_set)
    own, _ = make(
        motion_set, flip=True, randaug="rand-m7-n2", erasing=0.25, frames=2, stride=3, repeats=2
    )
    assert not plain.dataset.augment.flip and own.dataset.augment.flip
    assert (plain.dataset.augment.erasing, own.dataset.augment.erasing) == (0.0, 0.25)
    assert own.dataset.augment.randaug and not plain.dataset.augment.randaug
    assert (own.spec.frames, own.spec.stride, own.dataset.repeats) == (2, 3, 2)
    assert (plain.spec.frames, plain.spec.stride, plain.dataset.repeats) == (4, 1, 1)
    assert config.data.erasing == 0.0, "the run's own settings stay"


def test_an_image_is_read_as_a_clip_of_itself(picture_set):
    config = CotrainConfig(model=MODEL)
    config.data.batch_size, config.data.workers = 4, 0
    split = check_split(*train_val(picture_set, kinds="image"), config.data, "pictures")
    settings = SourceConfig(
        name="p", data=str(picture_set), kind="image", min_area=1.0, flip=False, batch_size=3
    )
    source = make_source(settings, split, config, ClipSpec(4, 1, 40), 1)
    ((batch,), *_) = Mixture([source], config).steps(0, 0)
    assert batch["clip"].shape == (3, 1, 40, 40, 3)
    for clip, index in zip(batch["clip"], batch["index"].tolist(), strict=True):
        with Image.open(split.train.rows[index].path) as image:
            assert np.array_equal(clip[0].numpy(), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({}, [3, 3]),
        ({"steps": 7}, [3, 7]),
        ({"share": 0.75}, [3, 9]),
        ({"batch_size": 2}, [3, 6]),
        ({"batch_size": 2, "accumulate": 2}, [3, 3]),
    ],
)
def test_steps_of_an_epoch(motion_set, given, want):
    one, config = make(motion_set)
    other, _ = make(motion_set, **given)
    other.config.name = "n"
    mixed = Mixture([one, other], config)
    assert mixed.counts == want
    order = [group[0]["source"] for group in mixed.steps(0, 0)]
    assert [order.count("m"), order.count("n")] == want
    passes = [row["passes_per_epoch"] for row in mixed.plan().values()]
    assert passes[0] == 1.0
    per_step = other.batch_size * other.accumulate
    assert passes[1] == pytest.approx(want[1] * per_step / 12), "what is said is what is done"


@pytest.mark.slow
def test_two_processes(motion_set, picture_set, tmp_path):
    line = ["cotrain", MODEL, *SMALL, "--source", f"motion={motion_set}", "--epochs", "2"]
    line += ["--images", f"color={picture_set}", "--processes", "2", "--batch-size", "2", "--json"]
    result = json_of(run_cli(*line, "--out", tmp_path / "run"))
    assert result["steps"] == 8


def test_clips_that_a_model_does_not_take_are_refused_before_training(motion_set):
    model = vidinit.create_model("dist-vit_tiny_patch16_224", num_classes=2)
    source, _ = make(motion_set)
    with pytest.raises(UsageError, match="source 'm' has clips of 4 frames, and dist-"):
        check_lengths([source], model)
    check_lengths([source], vidinit.create_model(MODEL))


@pytest.mark.slow
def test_a_transformer_and_its_images(motion_set, picture_set, tmp_path):
    out = tmp_path / "run"
    vidinit.cotrain(
        "timesformer-vit_tiny_patch16_224",
        sources=[f"motion={motion_set}"],
        images=[f"color={picture_set},batch_size=2"],
        overrides=[*SMALL, "train.select=last"],
        epochs=1,
        out=out,
    )
    rows = logged(out)
    told = vidinit.evaluate(out, all_sources=True, overrides=["data.workers=0"], out=tmp_path / "e")
    for name, own in told["sources"].items():
        assert own["top1"] == pytest.approx(rows[-1][f"top1_{name}"], abs=1e-5)
    images = vidinit.load(out, head="color")
    assert images.spec.frames == 1 and images.time_embed.shape[1] == 4
