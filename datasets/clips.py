"""One prepared clip on disk: packed JPEG frames beside plain arrays (docs/data.md, "Prepared clips").

Preprocessing writes clips with :class:`ClipWriter`, training reads them with :class:`PreparedClip`; no other
module knows the format. Frames are uint8 HWC RGB at this file edge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.coefficients import ROW_LENGTH
from videoretalking.core.config import to_dict
from videoretalking.core.constants import ENET_SIZE, MEL_BANDS, TRAIN_FPS
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.core.landmarks import NUM_LANDMARKS

FORMAT_VERSION = 1
META = "meta.json"
RESTORED_SIZE = (
    3 * ENET_SIZE // 2
)  # pixels of a restored square: E-Net's face and a quarter of it on every side
JPEG_QUALITY = 95

_DECODE_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


# The frames of a clip as stored; as a restorer enhances them (E-Net's targets); as D-Net renders them with a
# neutral expression (references of L-Net).
Version = Literal["frames", "restored", "neutral"]

# name -> shape after the leading frame axis
_PER_FRAME = {
    "landmarks": (NUM_LANDMARKS, 2),
    "boxes": (4,),
    "rows": (ROW_LENGTH,),
    "restored_windows": (4,),
    "neutral_landmarks": (NUM_LANDMARKS, 2),
}


@dataclass(frozen=True)
class ClipMeta:
    """What ``meta.json`` holds.

    Attributes:
        identity: the person; splits never share one.
        num_frames: frames of the clip, all of one shot, ``fps`` apart.
        height: stored frame height in pixels.
        width: stored frame width in pixels.
        dnet_window: x1, y1, x2, y2 of D-Net's square view in stored pixels, fixed for the clip; ``rows`` were
            measured on this window resized to 256x256.
        source: where the clip comes from (file, first and last second).
        license: license of the source, one line.
        release_training: whether weights trained on this clip may be published.
        source_window: x1, y1, x2, y2 of the stored frame in the source video's pixels.
        fps: frames a second; always 25 in prepared data.
        sync_offset: measured shift in frames that was removed from the sound (positive: sound was late).
        format_version: version of this layout.
    """

    identity: str
    num_frames: int
    height: int
    width: int
    dnet_window: tuple[float, float, float, float]
    source: str
    license: str
    release_training: bool
    source_window: tuple[float, float, float, float] | None = None
    fps: float = TRAIN_FPS
    sync_offset: float = 0.0
    format_version: int = FORMAT_VERSION


def encode_jpeg(frame: Image8, quality: int = JPEG_QUALITY) -> bytes:
    """uint8 HWC RGB -> JPEG bytes without chroma subsampling, so that lips keep their color edges."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"OpenCV could not encode a frame of shape {frame.shape}")
    return data.tobytes()


def decode_jpeg(data: npt.NDArray[np.uint8], reduction: int = 1) -> Image8:
    """JPEG bytes -> uint8 HWC RGB.

    Args:
        data: uint8 [bytes].
        reduction: 1, 2, 4 or 8: decode at that fraction of the size (each pixel the mean of its block).

    Raises:
        ValueError: the bytes are not an image.
    """
    frame = cv2.imdecode(data, _DECODE_FLAGS[reduction])
    if frame is None:
        raise ValueError("not a JPEG image")
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def choose_reduction(most: float) -> int:
    """The largest factor, of those by which a JPEG file can be decoded smaller, that is not above ``most``."""
    return next(factor for factor in (8, 4, 2, 1) if factor <= max(1.0, most))


class ClipWriter:
    """Writes one clip folder, each file atomically; ``finish`` writes ``meta.json`` last.

    A folder without ``meta.json`` is unfinished and no reader touches it; a step that is repeated overwrites
    its own files only.

    Args:
        folder: the clip's folder, created on demand.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def write_frames(
        self, frames: Iterable[Image8], name: Version = "frames", quality: int = JPEG_QUALITY
    ) -> int:
        """Pack uint8 HWC RGB frames into ``<name>.bin`` with ``<name>_index.npy``.

        Args:
            frames: frames of one size; consumed one by one.
            name: which version of the frames.
            quality: JPEG quality.

        Returns:
            The number of frames written.
        """
        offsets = [0]
        with atomic_path(self.folder / f"{name}.bin") as temporary, temporary.open("wb") as handle:
            for frame in frames:
                offsets.append(offsets[-1] + handle.write(encode_jpeg(frame, quality)))
        self._write_array(f"{name}_index", np.asarray(offsets, dtype=np.int64))
        return len(offsets) - 1

    def write_per_frame(self, name: str, values: Floats32) -> None:
        """Write what has one entry a frame.

        Args:
            name: ``landmarks`` or ``neutral_landmarks`` [N, 68, 2], ``boxes`` or ``restored_windows`` [N, 4],
                ``rows`` [N, 262].
            values: float32 of that shape.
        """
        shape = _PER_FRAME[name]
        if values.shape[1:] != shape or not np.isfinite(values).all():
            raise ValueError(
                f"{name} must be finite with shape [N, {', '.join(map(str, shape))}], got {values.shape}"
            )
        self._write_array(name, values.astype(np.float32))

    def write_audio(self, wave: Floats32 | None, mel: Floats32) -> None:
        """Write the sound: ``wave`` [samples] in [-1, 1], 16 kHz, kept as int16, or none; ``mel`` [80, columns]."""
        if mel.ndim != 2 or mel.shape[0] != MEL_BANDS:
            raise ValueError(f"mel must have shape [{MEL_BANDS}, columns], got {mel.shape}")
        if wave is not None:
            samples = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
            self._write_array("wave", samples)
        self._write_array("mel", mel.astype(np.float32))

    def finish(self, meta: ClipMeta) -> None:
        """Write ``meta.json``; from now on the clip counts as complete."""
        with atomic_path(self.folder / META) as temporary:
            temporary.write_text(json.dumps(to_dict(meta), indent=1, ensure_ascii=False), encoding="utf-8")

    def _write_array(self, name: str, values: npt.NDArray[np.generic]) -> None:
        with atomic_path(self.folder / f"{name}.npy") as temporary:
            np.save(temporary, values)


class PreparedClip:
    """Read access to one finished clip; arrays are loaded on first use, frames decoded one by one.

    Args:
        folder: the clip's folder.

    Raises:
        UserError: no ``meta.json``, a damaged one, or one of a newer format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._opened: dict[Version, tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]] = {}
        path = self.folder / META
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"prepared clip {folder} has no readable {META} ({error.strerror}); run preprocessing again"
            ) from None
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); run preprocessing again") from None
        if not isinstance(values, dict):
            raise UserError(f"{path} does not describe a clip; run preprocessing again")
        if "licence" in values:  # the name of the key in clips of version 0.1
            values["license"] = values.pop("licence")
        if values.get("format_version", 0) > FORMAT_VERSION:
            raise UserError(f"{path} has a newer format than {FORMAT_VERSION}: update the program")
        try:
            self.meta = ClipMeta(**values)
        except TypeError as error:
            raise UserError(f"{path} does not describe a clip ({error}); run preprocessing again") from None

    def __len__(self) -> int:
        return self.meta.num_frames

    def has(self, name: str) -> bool:
        """Whether the clip holds ``landmarks``, ``boxes``, ``rows``, ``mel``, ``restored_index`` ..."""
        return (self.folder / f"{name}.npy").is_file()

    def frame(self, index: int, max_reduction: float = 1.0, version: Version = "frames") -> Image8:
        """Decode one frame.

        Args:
            index: frame number.
            max_reduction: the frame may come smaller by a factor of 1, 2, 4 or 8, the largest not above this.
            version: which version of it; :meth:`view` says what a restored one shows.

        Returns:
            uint8 HWC RGB.

        Raises:
            IndexError: no such frame.
            UserError: the data are damaged.
        """
        packed, offsets = self._open(version)
        if not 0 <= index < len(offsets) - 1:
            raise IndexError(f"frame {index} of {self.folder}, which has {len(offsets) - 1}")
        try:
            return decode_jpeg(
                np.asarray(packed[offsets[index] : offsets[index + 1]]), choose_reduction(max_reduction)
            )
        except (ValueError, cv2.error):
            raise UserError(
                f"frame {index} in {self.folder / version}.bin is damaged; run preprocessing for this clip again"
            ) from None

    def view(self, index: int, version: Version = "frames") -> tuple[Floats32, tuple[int, int]]:
        """What a frame shows.

        Args:
            index: frame number.
            version: of which version.

        Returns:
            [4] x1, y1, x2, y2 in stored pixels, and the (width, height) that it is meant to have. Restored frames
            without windows, as earlier versions wrote them, show the stored view and may be larger.
        """
        if version == "restored" and self._restored_windows is not None:
            return self._restored_windows[index], (RESTORED_SIZE, RESTORED_SIZE)
        size = (self.meta.width, self.meta.height)
        return np.array([0, 0, *size], np.float32), size

    @cached_property
    def _restored_windows(self) -> Floats32 | None:
        return self._array("restored_windows") if self.has("restored_windows") else None

    @cached_property
    def landmarks(self) -> Floats32:
        """[N, 68, 2] x, y in stored pixels, pixel centers at integers."""
        return self._array("landmarks")

    @cached_property
    def boxes(self) -> Floats32:
        """[N, 4] x1, y1, x2, y2 of the face crop of L-Net and E-Net, in stored pixels."""
        return self._array("boxes")

    @cached_property
    def rows(self) -> Floats32:
        """[N, 262] 3DMM rows, measured on ``meta.dnet_window`` resized to 256x256."""
        return self._array("rows")

    @cached_property
    def mel(self) -> Floats32:
        """[80, columns] log-mel spectrogram, 80 columns a second, in [-4, 4]."""
        return self._array("mel")

    @cached_property
    def wave(self) -> Floats32:
        """[samples] mono sound at 16 kHz in [-1, 1)."""
        return (self._array("wave") / np.float32(32768.0)).astype(np.float32)

    @cached_property
    def neutral_landmarks(self) -> Floats32:
        """[N, 68, 2] as :attr:`landmarks`, in the frames that D-Net rendered."""
        return self._array("neutral_landmarks")

    def _open(self, version: Version) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The packed frames of a version and where each begins."""
        if version not in self._opened:
            self._opened[version] = self._packed(version), self._array(f"{version}_index")
        return self._opened[version]

    def _array(self, name: str) -> npt.NDArray:
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"cannot read {path} ({error}); run preprocessing for this clip again") from None

    def _packed(self, name: str) -> npt.NDArray[np.uint8]:
        path = self.folder / f"{name}.bin"
        try:
            return np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path} ({error}); run preprocessing for this clip again") from None
