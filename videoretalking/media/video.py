"""Video in and out: what other packages import."""

from __future__ import annotations

from videoretalking.media.reader import Frame, VideoInfo, VideoReader
from videoretalking.media.writer import VideoWriter

__all__ = ["Frame", "VideoInfo", "VideoReader", "VideoWriter"]
