"""Video in and out: what other packages import."""

from __future__ import annotations

from videoretalking.media.reader import Frame, Look, VideoInfo, VideoReader
from videoretalking.media.writer import VideoWriter

__all__ = ["Frame", "Look", "VideoInfo", "VideoReader", "VideoWriter"]
