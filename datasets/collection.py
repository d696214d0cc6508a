"""A set of prepared clips chosen from the manifest, opened on demand."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.constants import MEL_WINDOW, TRAIN_FPS
from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.manifest import read_manifest
from videoretalking.media.mel import window_start

logger = logging.getLogger(__name__)

Residence = bool | Literal["auto"]  # YAML reads on and off as true and false
_OPEN_CLIPS = 256  # per worker process; each holds its small arrays and two memory maps


@dataclass(frozen=True)
class DataConfig:
    """Which prepared clips are read, and how sound is laid against picture.

    Attributes:
        root: folder that holds ``manifest.csv``.
        train_split: split of the manifest that trains.
        val_split: split that validates; "" trains without validation.
        release_only: train on clips whose weights may be published only (``release_training``).
        audio_offset: frames by which every speech window starts later than its frame. The published inference
            starts the window at the frame, the published training (Wav2Lip) one frame earlier (-1); here both
            use the same, so that what was trained is what runs.
        resident: keep the decoded training frames in the memory of the device and make pictures there: ``auto`` on
            a GPU where they fit into half of its free memory, ``on`` there or on a CPU, ``off`` reads files.
    """

    root: str
    train_split: str = "train"
    val_split: str = "val"
    release_only: bool = False
    audio_offset: int = 0
    resident: Residence = "auto"


class ClipCollection:
    """Clips of one split that hold the needed arrays and enough frames, in manifest order.

    Args:
        config: root and choice.
        split: split of the manifest.
        needs: arrays a clip must have (names of its ``.npy`` files).
        min_frames: fewest frames, all of them with a full speech window when ``mel`` is needed.
        release_only: leave out clips whose weights may not be published.

    Raises:
        UserError: nothing is left, or two clips of the manifest contradict each other.
    """

    def __init__(
        self,
        config: DataConfig,
        split: str,
        needs: Sequence[str],
        min_frames: int,
        release_only: bool = False,
    ) -> None:
        self.root = Path(config.root)
        self.audio_offset = config.audio_offset
        self.split = split
        listed = [entry for entry in read_manifest(self.root) if entry.split == split]
        allowed = [entry for entry in listed if entry.release_training or not release_only]
        self._first = max(0, -config.audio_offset) if "mel" in needs else 0
        self.names: list[str] = []
        self._usable: list[int] = []
        for entry in allowed:
            folder = self.root / entry.clip
            if all((folder / f"{name}.npy").is_file() for name in needs):
                usable = self._count_usable(folder, entry.num_frames, "mel" in needs)
                if usable >= min_frames:
                    self.names.append(entry.clip)
                    self._usable.append(usable)
        if not self.names:
            advice = ""
            if split == config.val_split != config.train_split:
                advice = (
                    "; run scripts.preprocess.splits again, which lets somebody validate, with a larger "
                    "--val-share for more people, or train without validation (loop.validate_every=0)"
                )
            raise UserError(
                f"no clip of split {split!r} in {self.root} can be used: {len(listed)} are listed, "
                f"{len(allowed)} allowed by data.release_only, none has {', '.join(needs)} and "
                f"{min_frames} frames{advice}"
            )
        if len(self.names) < len(listed):
            logger.info("%s: %d of %d clips of split %s used", self.root, len(self.names), len(listed), split)
        self._open: OrderedDict[int, PreparedClip] = OrderedDict()

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, index: int) -> PreparedClip:
        """The clip at ``index``; recently used ones stay open."""
        if index not in self._open:
            self._open[index] = PreparedClip(self.root / self.names[index])
            if len(self._open) > _OPEN_CLIPS:
                self._open.popitem(last=False)
        self._open.move_to_end(index)
        return self._open[index]

    def usable_frames(self, index: int) -> range:
        """Frames of the clip that have a full speech window (all frames when no sound is needed)."""
        return range(self._first, self._first + self._usable[index])

    def speech_windows(self, index: int, frames: Sequence[int]) -> Floats32:
        """[T, 1, 80, 16]: for each frame the 0.2 s of mel columns that drive it."""
        return np.stack([self.clip_window(index, frame + self.audio_offset) for frame in frames])

    def clip_window(self, index: int, frame: int) -> Floats32:
        """[1, 80, 16]: the mel columns of the five frames from ``frame`` on, which the expert hears."""
        start = mel_start(frame)
        return self.clip(index).mel[None, :, start : start + MEL_WINDOW]

    def draw_other(self, index: int, num_frames: int, rng: np.random.Generator) -> tuple[int, int]:
        """Another clip at random (the same one if it is the only one) and the start of a window inside it."""
        other = (index + int(rng.integers(1, max(2, len(self))))) % len(self)
        usable = self.usable_frames(other)
        return other, int(rng.integers(usable.start, usable.stop - num_frames + 1))

    def _count_usable(self, folder: Path, num_frames: int, needs_mel: bool) -> int:
        if not needs_mel:
            return num_frames
        path = folder / "mel.npy"
        try:
            _, columns = np.load(path, mmap_mode="r").shape
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"cannot read {path} ({error}); run preprocessing for this clip again") from None
        return len(self._voiced(columns, num_frames))

    def voiced_frames(self, index: int) -> range:
        """Frames of a clip with sound that have a full speech window, where not every clip needs sound."""
        clip = self.clip(index)
        return self._voiced(clip.mel.shape[1], len(clip))

    def _voiced(self, columns: int, num_frames: int) -> range:
        first = max(0, -self.audio_offset)
        last = num_frames
        while last > first and mel_start(last - 1 + self.audio_offset) + MEL_WINDOW > columns:
            last -= 1
        return range(first, max(first, last))


def mel_start(frame: int) -> int:
    """First mel column at or before the start of a 25 fps frame."""
    return window_start(frame / TRAIN_FPS)


def to_image(frame: npt.NDArray[np.uint8]) -> Floats32:
    """uint8 [..., H, W, 3] -> float32 [..., 3, H, W] in [0, 1]."""
    return np.moveaxis(frame, -1, -3).astype(np.float32) / np.float32(255.0)


def to_clip(frames: Sequence[Image8]) -> Floats32:
    """uint8 frames [S, S, 3] -> float32 [3, T, S, S] in [0, 1]."""
    return to_image(np.stack(frames)).swapaxes(0, 1)
