"""Decoding in the main process must not break decoding in the workers forked from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from data.ten_clips import views

from vidinit.data.loading.loader import eval_loader
from vidinit.data.loading.quarantine import Quarantine
from vidinit.data.readers import open_video
from vidinit.data.rows import Row, Rows


def test_workers_decode_after_the_main_process_did(
    write_video: Callable[..., Path], tmp_path: Path
) -> None:
    # PyAV reads .mpg; its shared color converter holds threads that a fork does not copy.
    files = [write_video(tmp_path / f"{i}.mpg", 12) for i in range(4)]
    with av.open(str(files[0])) as container:
        shared = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    own = open_video(files[0], reader="pyav").get(np.arange(12))
    assert np.array_equal(np.stack(shared)[: len(own)], own)
    rows = Rows(tuple(Row(str(file), 0) for file in files), ("a",))
    quarantine = Quarantine()
    loader = eval_loader(
        views(rows),
        batch_size=1,
        workers=2,
        deadline=10.0,  # a worker that hangs is an error, not a test that never ends
        quarantine=quarantine,
        context="fork",
    )
    assert [batch["error"] for batch in loader] == [[None]] * 4
    assert not quarantine.events
