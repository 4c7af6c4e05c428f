"""Decoding in the main process must not break decoding in the workers forked from it."""

from __future__ import annotations

import av
import numpy as np

from vidinit.data.decode import PyAVReader
from vidinit.data.loader import EvalDataset, eval_loader
from vidinit.data.sources import Row, Rows
from vidinit.data.transforms import Pixels


def test_workers_decode_after_the_main_process_did(write_video, tmp_path):
    # PyAV reads .mpg; its shared color converter holds threads that a fork does not copy.
    files = [write_video(tmp_path / f"{i}.mpg", 12) for i in range(4)]
    with av.open(str(files[0])) as container:
        shared = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    own = PyAVReader(files[0]).get(np.arange(12))
    assert np.array_equal(np.stack(shared)[: len(own)], own)
    rows = Rows(tuple(Row(file, 0) for file in files), ("a",))
    dataset = EvalDataset(rows, frames=4, size=32, pixels=Pixels())
    loader = eval_loader(dataset, batch_size=1, workers=2)
    loader.timeout = 40  # a worker that hangs is an error, not a test that never ends
    assert [batch["error"] for batch in loader] == [[None]] * 4
