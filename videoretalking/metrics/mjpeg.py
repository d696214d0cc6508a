"""The lossy detour of the published sync scores: frames are written as JPEG files and read back.

The published scripts let FFmpeg write the files with its default settings, a 200 kbit/s rate control that starts
near 40 dB and settles near 31 dB on 224-pixel faces. The same coder is used here in memory, so that scores carry
the same blur.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

FPS = 25
BIT_RATE = 200_000  # FFmpeg's default


class MjpegStream:
    """Codes frames one after the other; the quality of each depends on those before it.

    Args:
        width: of the frames, pixels.
        height: of the frames, pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        import av

        self._encoder = av.CodecContext.create("mjpeg", "w")
        self._encoder.width, self._encoder.height = width, height
        self._encoder.pix_fmt = "yuvj420p"
        self._encoder.time_base = Fraction(1, FPS)
        self._encoder.bit_rate = BIT_RATE
        self._encoder.thread_count = 1  # several threads would delay frames and change the rate control
        self._decoder = av.CodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1
        self._to_frame = av.VideoFrame.from_ndarray
        self._count = 0

    def __call__(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """[H, W, 3] uint8 RGB -> the same after coding."""
        frame = self._to_frame(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuvj420p")
        frame.pts = self._count
        self._count += 1
        (packet,) = self._encoder.encode(frame)
        (decoded,) = self._decoder.decode(packet)
        return np.asarray(decoded.to_ndarray(format="rgb24"), dtype=np.uint8)
