from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from vidinit.report import pictures


def test_film_strip_holds_the_frames_in_order() -> None:
    frames = np.zeros((3, 40, 60, 3), dtype=np.uint8)
    frames[0, ..., 0] = frames[1, ..., 1] = frames[2, ..., 2] = 255
    tag = ET.fromstring(pictures.film_strip(frames, height=20).replace(">", "/>"))
    assert (tag.attrib["width"], tag.attrib["height"]) == ("90", "20")
    head, _, data = tag.attrib["src"].partition(",")
    assert head == "data:image/jpeg;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert pixels.shape == (20, 90, 3)
    assert [int(pixels[10, x].argmax()) for x in (15, 45, 75)] == [0, 1, 2]
    with pytest.raises(ValueError, match="uint8"):
        pictures.film_strip(frames.astype(np.float32))
    with pytest.raises(ValueError, match="uint8"):
        pictures.film_strip(frames[0])


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


def sources(html: str) -> list[bytes]:
    return [base64.b64decode(text) for text in re.findall(r"data:image/webp;base64,([^\"]*)", html)]


def test_an_animation_moves_and_has_a_still_for_who_wants_none() -> None:
    html = pictures.animation(moving(), label='a "clip"', fps=4)
    assert 'alt="a &quot;clip&quot;"' in html and 'media="(prefers-reduced-motion: reduce)"' in html
    still, whole = (Image.open(io.BytesIO(data)) for data in sources(html))
    assert getattr(still, "n_frames", 1) == 1 and whole.n_frames == 6
    assert whole.size == still.size == (96, 48) and 'width="96" height="48"' in html
    reds = []
    for t in range(6):
        whole.seek(t)
        whole.load()
        assert whole.info["duration"] == 250
        reds.append(np.argwhere(np.asarray(whole.convert("RGB"))[24, :, 0] > 125).mean())
    assert reds == sorted(reds) and reds[-1] > reds[0] + 10


def test_an_animation_fits_into_its_bytes() -> None:
    easy, hard = (sources(pictures.animation(moving(noise=noise), label="", limit=1000))[1]
                  for noise in (False, True))  # fmt: skip
    assert len(easy) <= 1000 and Image.open(io.BytesIO(easy)).size == (96, 48)
    assert Image.open(io.BytesIO(hard)).size == (48, 24)
    free = sources(pictures.animation(moving(noise=True), label="", limit=10**6))[1]
    assert len(hard) < len(free) / 3
    with pytest.raises(ValueError, match="uint8"):
        pictures.animation(moving()[0], label="")
