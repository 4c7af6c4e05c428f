"""Frames out of files: one reader interface, one error, whatever decodes underneath.

PyAV reads every file and is the reference; decord and torchcodec decode on request, where they are
exact. A reader belongs to the process that opened it.
"""

from .base import Reader, VideoReadError, scaled_size
from .decord import DecordReader
from .images import FramesReader, ImageReader
from .opening import READERS, open_row, open_video, probe, require_reader
from .pyav import PyAVReader
from .torchcodec import TorchCodecReader

__all__ = [
    "READERS",
    "DecordReader",
    "FramesReader",
    "ImageReader",
    "PyAVReader",
    "Reader",
    "TorchCodecReader",
    "VideoReadError",
    "open_row",
    "open_video",
    "probe",
    "require_reader",
    "scaled_size",
]
