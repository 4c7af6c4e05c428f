"""Files with the same bytes, and videos that look alike, by pictures made for it."""

from __future__ import annotations

import os

import numpy as np
import pytest
from support import write_video

from vidinit.data.index.duplicates import NEAR, alike, frame_hash, hash_file, identical_files


def test_files_of_the_same_bytes_are_found_under_their_names(tmp_path):
    contents = {"a": b"x" * 99, "b": b"x" * 99, "c": b"x" * 98 + b"y", "d": b"z", "e": b""}
    paths = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        paths.append(str(tmp_path / name))
    os.symlink(paths[0], tmp_path / "link")
    found = identical_files([*paths, str(tmp_path / "link"), str(tmp_path / "absent")])
    assert found == [paths[:2]], "a link is the same file, and empty files say nothing"


def test_files_that_differ_in_the_middle_are_not_the_same(tmp_path):
    one, other = bytearray(200_000), bytearray(200_000)
    other[100_000] = 1
    for name, content in (("a", one), ("b", other), ("c", one)):
        (tmp_path / name).write_bytes(content)
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert identical_files([a, b, c]) == [[a, c]]


def test_the_hash_of_a_ramp_is_known():
    ramp = np.repeat(np.arange(255, -1, -1, dtype=np.uint8)[None, :, None], 64, axis=0)
    falling = np.repeat(ramp, 3, axis=2)
    assert frame_hash(falling) == 2**64 - 1, "every place is brighter than its right one"
    assert frame_hash(falling[:, ::-1]) == 0


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(20, 235, (9, 11, 3)), np.ones((16, 16, 1))) for _ in range(4)]


def test_size_noise_and_light_change_few_bits_and_another_scene_many(scenes):
    first = scenes[0].astype(np.uint8)
    noisy = np.clip(scenes[0] + np.random.default_rng(1).normal(0, 6, scenes[0].shape), 0, 255)
    for same in (first[::2, ::2], noisy.astype(np.uint8), (scenes[0] * 0.8).astype(np.uint8)):
        assert (frame_hash(first) ^ frame_hash(same)).bit_count() <= 3
    for other in scenes[1:]:
        assert (frame_hash(first) ^ frame_hash(other.astype(np.uint8))).bit_count() > 16


def test_pairs_that_look_alike_are_those_within_so_many_bits():
    base = np.array([1, 2**63, 12345], dtype=np.uint64)
    near, far = base.copy(), base.copy()
    near[1] ^= np.uint64(2**NEAR - 1)
    far[1] ^= np.uint64(2 ** (NEAR + 1) - 1)
    # The second and the third differ in one bit.
    assert alike(np.stack([base, near, far])) == [(0, 1, NEAR), (1, 2, 1)]


def test_a_copy_in_another_size_and_quality_looks_alike(tmp_path, scenes):
    big, another = (np.stack([scene.astype(np.uint8)] * 6) for scene in scenes[:2])
    big[3:, 40:80, 40:80] = 250  # something comes into view
    one = write_video(tmp_path / "a.mp4", big)
    other = write_video(tmp_path / "b.mp4", big[:, ::2, ::2], fps=30)
    third = write_video(tmp_path / "c.mp4", another)
    hashes = np.array([hash_file(str(path)) for path in (one, other, third)], dtype=np.uint64)
    assert [pair[:2] for pair in alike(hashes)] == [(0, 1)]
