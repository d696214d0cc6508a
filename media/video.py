"""Video in and out: what other packages import."""

from __future__ import annotations

from media.reader import Frame, VideoInfo, VideoReader
from media.writer import CODECS, VideoWriter

__all__ = ["CODECS", "Frame", "VideoInfo", "VideoReader", "VideoWriter"]
