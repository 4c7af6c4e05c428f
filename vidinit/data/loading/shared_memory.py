"""A batch on its way from the process that made it to the one that uses it, without a copy.

The sender writes it to a file that has no name and lies in memory, and sends the descriptor of
that file through a socket. The message is there as a whole or not at all, and using what it brings
takes nothing more from the sender, which may hang or die the moment after; the kernel frees the
memory with its last user, whoever dies first. ``/dev/shm``, which containers keep small, is not
used.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import socket
import struct
import sys
import tempfile
from typing import IO, Any

import torch
from torch import Tensor

# Which systems can pass descriptors on.
SUPPORTED = hasattr(socket, "send_fds")

# The number of the batch, and how many bytes its description has.
_MESSAGE = struct.Struct("<QQ")
# Tensors start at multiples of this, as torch's own do.
_ALIGNMENT = 64


def send(channel: socket.socket, number: int, value: Any) -> None:
    """Send a batch: tensors, and whatever else can be pickled.

    Raises:
        OSError: nobody is there to take it, or there is no memory for it.
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
    parts = [buffer.raw() for buffer in buffers]
    head = pickle.dumps((stream.getvalue(), [part.nbytes for part in parts]))
    with _memory_file() as file:
        file.write(head)
        for part in parts:
            file.write(bytes(-file.tell() % _ALIGNMENT))
            file.write(part)
        file.flush()
        socket.send_fds(channel, [_MESSAGE.pack(number, len(head))], [file.fileno()])


def receive(channel: socket.socket) -> tuple[int, Any] | None:
    """The next batch and its number, once the channel can be read; None: the sender is gone.

    Tensors lie in the memory the sender wrote to, and may be written to as well.
    """
    try:
        message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE.size, 1)
    except ConnectionError:
        return None
    if not message:
        return None
    number, place = _MESSAGE.unpack(message)
    try:
        memory = memoryview(mmap.mmap(descriptors[0], 0))
    finally:
        os.close(descriptors[0])
    payload, sizes = pickle.loads(memory[:place])
    buffers = []
    for size in sizes:
        place += -place % _ALIGNMENT
        buffers.append(memory[place : place + size])
        place += size
    return number, pickle.loads(payload, buffers=buffers)


class _Pickler(pickle.Pickler):
    """Hands out the memory of tensors instead of copying it, by way of numpy."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented


def _memory_file() -> IO[bytes]:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("vidinit-batch"), "w+b")
    return tempfile.TemporaryFile()
