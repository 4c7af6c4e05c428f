from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from vidinit.report import pictures
from vidinit.report.html import Section, page


def test_strips():
    filters = np.zeros((5, 3, 2, 4, 3), dtype=np.uint8)
    filters[4, 2] = 200
    html = pictures.strips(filters, label='the "first"', patch=8)
    assert "the &quot;first&quot;" in html
    text = re.findall(r'src="data:image/png;base64,([^"]*)"', html)[0]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert f'width="{image.shape[1]}" height="{image.shape[0]}"' in html
    lit = np.argwhere(image[..., 0] == 200)
    assert len(lit) == 4 * 8, "a patch of 2 x 4, twice as large"
    assert lit[:, 0].min() >= image.shape[0] // 2, "the fifth strip begins the second row"
    assert lit[:, 1].min() == 2 * (8 + 1)
    with pytest.raises(ValueError, match="expected uint8"):
        pictures.strips(filters.astype(float), label="")


def moving(frames: int = 6, side: int = 120, *, noise: bool = False) -> np.ndarray:
    rng = np.random.default_rng(0)
    clip = np.zeros((frames, side, 2 * side, 3), dtype=np.uint8)
    if noise:
        clip[:] = rng.integers(0, 255, clip.shape)
    for t in range(frames):
        clip[t, :, 10 * t : 10 * t + 40] = (250, 30, 30)
    return clip


def sprite(html: str) -> Image.Image:
    (text,) = re.findall(r"data:image/webp;base64,([^\"]*)", html)
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_an_animation_is_a_picture_of_all_frames_of_which_one_is_shown() -> None:
    html = pictures.animation(moving(), label='a "clip"', fps=4)
    assert 'alt="a &quot;clip&quot;"' in html and 'tabindex="0"' in html
    assert "--frames: 6; --still: 3; --seconds: 1.5s" in html
    assert "width: 128px; aspect-ratio: 128 / 64" in html
    whole = sprite(html)
    assert whole.size == (6 * 128, 64)
    pixels = np.asarray(whole.convert("RGB"))
    reds = [np.argwhere(pixels[32, 128 * t : 128 * (t + 1), 0] > 125).mean() for t in range(6)]
    assert reds == sorted(reds) and reds[-1] > reds[0] + 15


def test_the_page_moves_it_when_it_is_looked_at_and_motion_is_wanted() -> None:
    text = page("p", [Section("s", pictures.animation(moving(), label="c"))])
    wanted = text[text.index("@media (prefers-reduced-motion: no-preference)") :]
    wanted = wanted[: wanted.index("@media (prefers-reduced-motion: reduce)")]
    assert text.count("animation:") == wanted.count("animation:") == 1
    (rule,) = re.findall(r"([^{}]*)\{\s*animation:", wanted)
    assert all(":hover" in one or ":focus" in one for one in rule.split(","))


def test_an_animation_fits_into_its_bytes() -> None:
    def size(html: str) -> int:
        return len(base64.b64decode(html.partition("base64,")[2].partition('"')[0]))

    easy, hard = (
        pictures.animation(moving(noise=noise), label="", limit=1000) for noise in (False, True)
    )
    assert size(easy) <= 1000 and sprite(easy).size == (6 * 128, 64)
    assert size(hard) <= 1000 and sprite(hard).size == (6 * 64, 32)
    assert size(hard) < size(pictures.animation(moving(noise=True), label="", limit=10**6)) / 3
    with pytest.raises(ValueError, match="uint8"):
        pictures.animation(moving()[0], label="")
    with pytest.raises(ValueError, match="uint8"):
        pictures.animation(moving().astype(np.float32), label="")
