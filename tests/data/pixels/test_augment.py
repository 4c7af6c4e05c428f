from __future__ import annotations

import math
from collections import Counter
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm_augment
from torch import Tensor

from vidinit.data.pixels.augment import (
    RandAugment,
    argument,
    color_jitter,
    random_erasing,
    random_grayscale,
)
from vidinit.data.pixels.operations import OPERATIONS, grayscale
from vidinit.data.views import rng
from vidinit.errors import UsageError

GEOMETRY = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
# timm's names with "Increasing" where it has both.
INCREASING = dict(zip(OPERATIONS, timm_augment._RAND_INCREASING_TRANSFORMS, strict=True))
PLAIN = dict(zip(OPERATIONS, timm_augment._RAND_TRANSFORMS, strict=True))


def picture(height: int = 61, width: int = 90, *, low: int = 0, high: int = 256) -> np.ndarray:
    """A smooth picture with grain, levels from low to high."""
    generator = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + y / b) for a, b in ((9, 23), (17, 11), (31, -13))]
    image = np.stack(waves, -1) * 0.4 + 0.5 + generator.uniform(-0.1, 0.1, (height, width, 3))
    return (low + image.clip(0, 1) * (high - 1 - low)).astype(np.uint8)


def clip_of(*frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(frames))


def by_timm(name: str, image: np.ndarray, *arguments: float) -> Tensor:
    done = timm_augment.NAME_TO_OP[name](
        Image.fromarray(image),
        *arguments,
        fillcolor=(128, 128, 128),
        resample=Image.Resampling.BILINEAR,
    )
    return torch.from_numpy(np.asarray(done).copy())[None]


def timm_level(name: str, magnitude: float, sign: int) -> tuple[float, ...]:
    function = timm_augment.LEVEL_TO_ARG[name]
    # timm negates where the draw is above one half.
    with mock.patch("random.random", return_value=0.75 if sign < 0 else 0.25):
        return () if function is None else function(magnitude, {})


@pytest.mark.parametrize("names", [INCREASING, PLAIN], ids=["increasing", "plain"])
def test_magnitudes_mean_what_they_mean_to_timm(names: dict[str, str]) -> None:
    for name, theirs in names.items():
        for magnitude in [*range(11), 0.3, 6.55, 9.99]:
            for sign in (1, -1):
                found = argument(name, magnitude, increasing=names is INCREASING, sign=sign)
                expected = timm_level(theirs, magnitude, sign)
                assert (found,) == (expected or (0.0,)), (name, magnitude)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in GEOMETRY])
@pytest.mark.parametrize("kind", ["usual", "dull", "small", "plain"])
def test_operations_on_levels_equal_timm_exactly(name: str, kind: str) -> None:
    image = {
        "usual": picture(),
        "dull": picture(low=90, high=140),
        "small": picture(7, 5),
        "plain": np.full((20, 30, 3), (10, 200, 90), np.uint8),
    }[kind]
    clip = clip_of(image)
    arguments = {argument(name, m, increasing=True, sign=s) for m in range(11) for s in (1, -1)}
    if INCREASING[name].endswith("Increasing"):
        arguments |= {argument(name, m, increasing=False, sign=1) for m in range(11)}
    if name == "Posterize":
        # timm asks for it at magnitude 10, which newer versions of Pillow refuse.
        arguments.remove(0)
        assert not OPERATIONS[name](clip, 0).any()
    for value in sorted(arguments):
        given = () if timm_augment.LEVEL_TO_ARG[name] is None else (value,)
        found = OPERATIONS[name](clip, value)
        assert found.dtype == torch.uint8
        assert torch.equal(found, by_timm(INCREASING[name], image, *given)), value
    assert torch.equal(clip, clip_of(image))


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("shape", [(64, 64), (61, 90)])
def test_geometry_equals_timm_to_one_level(name: str, shape: tuple[int, int]) -> None:
    image = picture(*shape)
    assert torch.equal(OPERATIONS[name](clip_of(image), 0.0), clip_of(image))
    for magnitude in (1, 4.3, 7, 10):
        for sign in (1, -1):
            value = argument(name, magnitude, increasing=True, sign=sign)
            found = OPERATIONS[name](clip_of(image), value).int()
            difference = (found - by_timm(name, image, value).int()).abs()
            # PIL drops what is below a level, we round.
            assert int(difference.max()) <= 1, (magnitude, sign)
            assert float(difference.float().mean()) < 0.6
            outside = float((found == 128).all(-1).float().mean())
            assert outside > 0.005 * magnitude


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_treat_all_frames_by_one_rule(name: str) -> None:
    bright, dark = picture(high=220), picture(high=90)
    value = argument(name, 7, increasing=True, sign=1)
    pair = OPERATIONS[name](clip_of(bright, dark), value)
    assert pair.shape == (2, 61, 90, 3)
    assert pair.is_contiguous()
    # What a level becomes depends on all frames: together they are one long picture.
    if name not in (*GEOMETRY, "Sharpness"):
        long = OPERATIONS[name](clip_of(np.concatenate([bright, dark])), value)
        assert torch.equal(pair.flatten(0, 1), long[0])
    else:
        for i, frame in enumerate((bright, dark)):
            assert torch.equal(pair[i], OPERATIONS[name](clip_of(frame), value)[0])


@pytest.mark.parametrize(
    "text",
    [
        "rand",
        "rand-m7-n4-mstd0.5-inc1",
        "rand-m9",
        "rand-n3-m5-p0.3",
        "rand-p0.75-mstd101",
        "rand-m12-mmax15-inc0",
        "rand-m8-inc1-tweights-n3",
        "rand-tweights",
    ],
)
def test_words_mean_what_they_mean_to_timm(text: str) -> None:
    ours, theirs = RandAugment.parse(text), timm_augment.rand_augment_transform(text, {})
    assert ours.layers == theirs.num_layers
    for op in theirs.ops:
        assert ours.magnitude == op.magnitude
        assert ours.prob == op.prob
        assert ours.std == op.magnitude_std
        assert ours.limit == (op.magnitude_max or 10)
    names = {op.name for op in theirs.ops}
    assert names == set((INCREASING if ours.increasing else PLAIN).values())
    assert ours.weighted == (theirs.choice_weights is not None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("augmix-m3", "does not begin with 'rand'"),
        ("rand-m7.5", "unknown part 'm7.5'"),
        ("rand-w0", "unknown part 'w0'"),
        ("rand-m7-t3a", "unknown part 't3a'"),
        ("rand--m7", "unknown part ''"),
        ("rand-m7-n", "unknown part 'n'"),
        ("rand-mstdinf", "unknown part 'mstdinf'"),
        ("rand-p1.5", "p or inc above 1"),
        ("rand-inc2", "p or inc above 1"),
        ("rand-n16-tweights", "16 different operations of 15"),
    ],
)
def test_other_words_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace(".", r"\.")) as caught:
        RandAugment.parse(text)
    assert "rand-m7-n4-mstd0.5-inc1" in caught.value.hint or "different" in message


def drawn(text: str, count: int) -> list[list[tuple[str, float]]]:
    randaug = RandAugment.parse(text)
    return [randaug.draw(rng(0, 0, index)) for index in range(count)]


def test_operations_are_drawn_alike_and_applied_by_their_chance() -> None:
    clips = drawn("rand-m7-n4-inc1", 600)
    counts = Counter(name for clip in clips for name, _ in clip)
    assert sum(counts.values()) == pytest.approx(600 * 4 * 0.5, rel=0.1)
    assert set(counts) == set(OPERATIONS)
    assert min(counts.values()) > 0.55 * 1200 / 15
    assert max(counts.values()) < 1.45 * 1200 / 15
    assert any(len({name for name, _ in clip}) < len(clip) for clip in clips)
    assert all(len(clip) == 4 for clip in drawn("rand-n4-p1", 20))
    assert not any(drawn("rand-n4-p0", 20))


def test_magnitudes_are_normal_uniform_or_fixed() -> None:
    def turns(text: str) -> np.ndarray:
        clips = drawn(text + "-n15-p1-inc1", 150)
        return np.array([value for clip in clips for name, value in clip if name == "Rotate"]) / 3

    fixed = turns("rand-m7")
    assert set(np.round(fixed, 6)) == {7.0, -7.0}
    assert abs((fixed > 0).mean() - 0.5) < 0.15
    normal = np.abs(turns("rand-m7-mstd0.5"))
    assert normal.mean() == pytest.approx(7, abs=0.2)
    assert normal.std() == pytest.approx(0.5, abs=0.12)
    uniform = np.abs(turns("rand-m8-mstd101"))
    assert uniform.max() <= 8
    assert uniform.mean() == pytest.approx(4, abs=0.7)
    assert np.abs(turns("rand-m10-mstd1")).max() == 10
    assert np.abs(turns("rand-m14-mmax12")).max() == pytest.approx(12)


def test_weighted_operations_are_mostly_geometry_and_never_twice() -> None:
    clips = drawn("rand-n3-p1-tweights", 300)
    assert all(len({name for name, _ in clip}) == 3 for clip in clips)
    counts = Counter(name for clip in clips for name, _ in clip)
    assert counts["Rotate"] > 200 > 40 > counts["Equalize"]


def test_randaugment_applies_what_it_draws() -> None:
    randaug = RandAugment.parse("rand-m7-n3-p1-mstd0.5-inc1")
    clip = clip_of(picture(), picture())
    expected = clip
    for name, value in randaug.draw(rng(0, 0, 1)):
        expected = OPERATIONS[name](expected, value)
    assert torch.equal(randaug(clip, rng(0, 0, 1)), expected)
    assert not torch.equal(expected, clip)
    assert torch.equal(clip, clip_of(picture(), picture()))


def test_color_jitter_stays_within_its_share() -> None:
    gray = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    levels = [int(color_jitter(gray, 0.4, rng(0, 0, i))[0, 0, 0, 0]) for i in range(100)]
    # On plain gray only the brightness changes anything.
    assert 59 <= min(levels) < 65 and 135 < max(levels) <= 140
    clip = clip_of(picture())
    outs = [color_jitter(clip, 0.4, rng(0, 0, i)).float() for i in range(60)]
    saturation = [float((out[..., 0] - out[..., 1]).abs().mean() / out.mean()) for out in outs]
    base = float((clip[..., 0].float() - clip[..., 1].float()).abs().mean() / clip.float().mean())
    assert min(saturation) < 0.75 * base and max(saturation) > 1.2 * base
    assert torch.equal(color_jitter(clip, 0.4, rng(0, 0, 5)), outs[5].byte())
    assert torch.equal(color_jitter(clip, 0.0, rng(0, 0, 5)), clip)


def test_color_jitter_beyond_one_goes_to_black_at_most() -> None:
    clip = clip_of(picture())
    assert all(color_jitter(clip, 3.0, rng(0, 0, i)).dtype == torch.uint8 for i in range(5))


def test_grayscale_is_that_of_pil() -> None:
    image = picture()
    found = grayscale(clip_of(image))
    expected = torch.from_numpy(np.asarray(Image.fromarray(image).convert("L")).copy())
    assert torch.equal(found, expected[None, ..., None].expand(1, 61, 90, 3))


def test_grayscale_and_erasing_come_with_their_chances() -> None:
    clip = clip_of(picture(20, 20))
    for function in (random_grayscale, random_erasing):
        changed = sum(not torch.equal(function(clip, 0.25, rng(0, 0, i)), clip) for i in range(200))
        assert 30 < changed < 70
        assert torch.equal(function(clip, 0.0, rng(0, 0, 0)), clip)
        assert not torch.equal(function(clip, 1.0, rng(0, 0, 0)), clip)


def test_erasing_fills_one_box_with_noise_that_is_the_same_in_all_frames() -> None:
    shares, ratios, values = [], [], []
    clip = torch.zeros(3, 48, 64, 3, dtype=torch.uint8)
    for index in range(60):
        erased = random_erasing(clip, 1.0, rng(0, 0, index))
        assert not clip.any()
        assert (erased == erased[:1]).all()
        inside = (erased[0] != 0).any(-1)
        rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
        height, width = (int(edge[-1] - edge[0]) + 1 for edge in (rows, columns))
        assert inside.sum() > 0.95 * height * width  # the noise may be black now and then
        shares.append(height * width / (48 * 64))
        ratios.append(math.log(height / width))
        values.append(erased[0][inside].float())
    assert 0.015 < min(shares) < 0.08 and 0.25 < max(shares) < 0.35
    assert min(ratios) < -0.6 and max(ratios) > 0.6 and max(map(abs, ratios)) < 1.35
    normal = (torch.cat(values) / 255 - torch.tensor((0.485, 0.456, 0.406))) / torch.tensor(
        (0.229, 0.224, 0.225)
    )
    assert normal.mean(0).abs().max() < 0.05
    assert (normal.std(0) - 0.97).abs().max() < 0.05
