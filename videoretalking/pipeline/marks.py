"""The marks of one job (section 6 of the paper): what goes into its picture and sound, and what its report says.

``on`` marks every frame, also those that pass through unedited: the whole file is this program's result, and any
piece of it shall say so. ``face`` marks the pixels that were painted; frames without any keep all bytes. Both mark
the sound.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from videoretalking.media.audio import AudioInfo
from videoretalking.media.reader import VideoInfo
from videoretalking.media.soundtrack import SoundFilter
from videoretalking.media.upload import groups
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
        """Whether :meth:`mark_frames` needs to know which pixels were painted."""
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

    def mark_frames(
        self, images: Sequence[Pixels], painted: Sequence[Pixels | None] | None = None
    ) -> list[Pixels]:
        """Marked copies of frames; the frames themselves where nothing is marked.

        Args:
            images: [H, W, 3] uint8 RGB each, of one size, ready but for the mark; either arrays, or tensors on one
                device, of which several are marked at once.
            painted: [H, W] weights of the edit in each, for ``face``; None where nothing was painted.
        """
        result = list(images)
        if self._video_mark is None:
            return result
        everywhere = self.mode == "on"
        masks: Sequence[Pixels] = [None] * len(result) if everywhere or painted is None else painted
        chosen = [number for number, mask in enumerate(masks) if everywhere or mask is not None]
        if not chosen or not isinstance(images[chosen[0]], torch.Tensor):
            for number in chosen:
                image = np.ascontiguousarray(images[number])  # OpenCV writes into no other
                result[number] = self._video_mark.apply(image, masks[number])
            return result
        for group in groups(len(chosen), *images[0].shape[:2]):
            numbers = chosen[group]
            together = torch.stack([images[number] for number in numbers])
            weights = None if everywhere else torch.stack([masks[number] for number in numbers])
            for number, image in zip(numbers, self._mark_batch(together, weights), strict=True):
                result[number] = image
        return result

    def _mark_batch(self, images: torch.Tensor, masks: torch.Tensor | None) -> torch.Tensor:
        """[N, H, W, 3] uint8 and [N, H, W] -> [N, H, W, 3] uint8."""
        frames = images.permute(0, 3, 1, 2).float().div_(255.0)
        marked = self._tensor_mark.apply(frames, None if masks is None else masks[:, None])
        return marked.permute(0, 2, 3, 1).mul_(255.0).round_().to(torch.uint8)

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
