"""The marks of one job (section 6 of the paper): what goes into its picture and sound, and what its report says.

``on`` marks every frame, also those that pass through unedited: the whole file is this program's result, and any
piece of it shall say so. ``face`` marks the pixels that were painted; frames without any keep all bytes. Both mark
the sound.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import torch

from videoretalking.media.audio import AudioInfo
from videoretalking.media.reader import VideoInfo
from videoretalking.media.soundtrack import SoundFilter
from videoretalking.pipeline.config import OutputConfig
from videoretalking.pipeline.raster import Pixels
from videoretalking.provenance.audio import MAX_RATE, MIN_RATE, AudioMark
from videoretalking.provenance.keys import Key, load_key
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.video import VideoMark
from videoretalking.provenance.video_detector import MIN_SIDE
from videoretalking.provenance.video_torch import TensorMark

logger = logging.getLogger(__name__)

MIN_SECONDS = 2.0  # of sound; less does not hold the message


class Marks:
    """Marks the frames and the sound of one result.

    Attributes:
        mode: ``on`` or ``face``.
        key: who can find the marks.
        payload: what they say.
        notes: what could not be marked, and why.

    Args:
        mode: see the module.
        key: likewise.
        payload: None draws a job number at random.
    """

    def __init__(self, mode: Literal["on", "face"], key: Key, payload: Payload | None = None) -> None:
        self.mode = mode
        self.key = key
        self.payload = Payload.new() if payload is None else payload
        self.notes: list[str] = []
        self._video_mark: VideoMark | None = VideoMark(key, self.payload)
        self._tensor_mark = TensorMark(key, self.payload)
        self._audio_mark: AudioMark | None = AudioMark(key, self.payload)

    @classmethod
    def from_config(cls, output: OutputConfig) -> Marks | None:
        """Fresh marks for one job; None where the settings want none.

        Raises:
            UserError: the key file cannot be read.
        """
        return None if output.mark == "off" else cls(output.mark, load_key(output.mark_key))

    @property
    def marks_painted_only(self) -> bool:
        """Whether :meth:`mark_frame` needs to know which pixels were painted."""
        return self.mode == "face" and self._video_mark is not None

    def fit(self, picture: VideoInfo, sound: AudioInfo | None = None, seconds: float = MIN_SECONDS) -> None:
        """Leave out what cannot bear a mark, and note it.

        Args:
            picture: size of the frames.
            sound: of the driving audio; None where there is none.
            seconds: of sound.
        """
        if min(picture.width, picture.height) < MIN_SIDE:
            self._video_mark = None
            size = f"{picture.width}x{picture.height}"
            self._note(f"the picture bears no mark: {size} is below {MIN_SIDE} pixels")
        if sound is None or not MIN_RATE <= sound.sample_rate <= MAX_RATE:
            self._audio_mark = None
        if sound is not None and self._audio_mark is None:
            self._note(
                f"the sound bears no mark: {sound.sample_rate} samples a second are too few or too many"
            )
        elif sound is not None and seconds < MIN_SECONDS:
            self._note(
                f"the mark of the sound is cut short: {seconds:.2f} s hold no whole message", logging.INFO
            )

    def mark_frame(self, image: Pixels, painted: Pixels | None = None) -> Pixels:
        """A marked copy of a frame; the frame itself where nothing is marked.

        Args:
            image: [H, W, 3] uint8 RGB, ready but for the mark; an array, or a tensor on any device.
            painted: [H, W] weights of the edit in it, for ``face``; None where nothing was painted.
        """
        if self._video_mark is None or (self.mode == "face" and painted is None):
            return image
        if isinstance(image, torch.Tensor):
            masks = None if painted is None or self.mode == "on" else painted[None, None]
            marked = self._tensor_mark.apply(image.permute(2, 0, 1)[None].float() / 255.0, masks)
            return (marked[0].permute(1, 2, 0) * 255.0).round().to(torch.uint8)
        image = np.ascontiguousarray(image)  # OpenCV writes into no other
        if self.mode == "on":
            return self._video_mark.apply(image)
        return self._video_mark.apply(image, painted)

    @property
    def sound_filter(self) -> SoundFilter | None:
        """What :class:`media.writer.VideoWriter` sends the sound through; None leaves it as it is."""
        return None if self._audio_mark is None else self._audio_mark.stream

    def describe(self) -> dict[str, Any]:
        """For the report: what a detector will say, and what was marked."""
        return {
            "mode": self.mode,
            "payload": self.payload.text,
            "job": f"{self.payload.job:012x}",
            "key": self.key.name,
            "picture": self._video_mark is not None,
            "sound": self._audio_mark is not None,
        }

    def _note(self, text: str, level: int = logging.WARNING) -> None:
        logger.log(level, "%s", text)
        self.notes.append(text)
