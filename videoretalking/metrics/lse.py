"""LSE-D and LSE-C: the lip-sync error of Prajwal et al. (2020), and the audio-video offset that comes with it.

:class:`SyncNetScore` is the published protocol with the evaluation SyncNet, in its two forms: ``frame`` (the
script for data sets of face clips: whole frames, squeezed to 224 x 224) and ``tracks`` (the script for other
videos: every face track is cropped and scored by itself). :class:`ExpertScore` asks the lip-sync expert of the
training instead; its numbers only rank methods against each other and are never comparable with published ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.constants import (
    ENET_SIZE,
    LNET_SIZE,
    MEL_WINDOW,
    SAMPLE_RATE,
    SYNC_FRAMES,
    TRAIN_FPS,
)
from videoretalking.faces.align import box_crop, extract
from videoretalking.faces.types import Face
from videoretalking.media.mel import mel_spectrogram, window_start
from videoretalking.metrics.base import Chunk, Clip, Metric, frame_grid, to_float
from videoretalking.metrics.face_tracks import CROP_SIZE, crop_face
from videoretalking.metrics.mfcc import COLUMNS_PER_SECOND, mfcc
from videoretalking.metrics.mjpeg import MjpegStream
from videoretalking.metrics.offset import SyncScore, sync_score
from videoretalking.models.layers.blocks import shrink
from videoretalking.models.lipsync_expert import LipSyncExpert, stack_lower_half
from videoretalking.models.syncnet import SyncNet

SAMPLES_PER_FRAME = round(SAMPLE_RATE / TRAIN_FPS)  # 640
MFCC_PER_FRAME = round(COLUMNS_PER_SECOND / TRAIN_FPS)  # 4 columns
MFCC_WINDOW = MFCC_PER_FRAME * SYNC_FRAMES  # 20 columns
WINDOWS_PER_BATCH = 16
OFFSET_TOLERANCE = 1  # frames; offsets within count as in sync


def num_windows(num_frames: int, num_samples: int) -> int:
    """Windows of the published protocol: one fewer than fit the picture, and never negative.

    Args:
        num_frames: frames at 25 a second.
        num_samples: samples at 16 kHz.
    """
    return max(0, min(num_frames, num_samples // SAMPLES_PER_FRAME) - SYNC_FRAMES)


def audio_starts(count: int) -> npt.NDArray[np.int64]:
    """First cepstral column of each of the ``count`` windows; each spans 20 columns."""
    return MFCC_PER_FRAME * np.arange(count)


def sync_values(scores: Sequence[SyncScore]) -> dict[str, float]:
    """The values of one video from the scores of its tracks.

    Returns:
        ``lse_d``, ``lse_c`` (means over tracks), ``lse_d_unshifted`` (LSE-D without the search for the best
        offset, to which LSE-D is blind), ``sync_tracks``, and of the most confident track ``av_offset`` (frames)
        and ``av_in_sync`` (1 if the offset is at most one frame, else 0). Without tracks only their number.
    """
    values = {"sync_tracks": float(len(scores))}
    if scores:
        best = max(scores, key=lambda score: score.confidence)
        values["lse_d"] = float(np.mean([score.min_distance for score in scores]))
        values["lse_c"] = float(np.mean([score.confidence for score in scores]))
        values["lse_d_unshifted"] = float(np.mean([score.unshifted_distance for score in scores]))
        values["av_offset"] = float(best.offset)
        values["av_in_sync"] = float(abs(best.offset) <= OFFSET_TOLERANCE)
    return values


class _TrackStream:
    """Crops of one track on their way to embeddings; keeps only the frames that later windows still need."""

    def __init__(self, start: int, embed: Callable[[Image8], Floats32]) -> None:
        self.start = start
        self.length = 0
        self._embed = embed
        self._pending: list[Image8] = []
        self._features: list[Floats32] = []

    def push(self, crop: Image8) -> None:
        self.length += 1
        self._pending.append(crop)
        if len(self._pending) == WINDOWS_PER_BATCH + SYNC_FRAMES - 1:
            self._flush()

    def features(self) -> Floats32 | None:
        if len(self._pending) >= SYNC_FRAMES:
            self._flush()
        return np.concatenate(self._features) if self._features else None

    def _flush(self) -> None:
        self._features.append(self._embed(np.stack(self._pending)))
        del self._pending[: -(SYNC_FRAMES - 1)]


class LipSync(Metric):
    """Common part of the sync scores: tracks on the 25 fps grid, windows of five frames, distances, offset."""

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        self._clip = clip
        self._grid = frame_grid(clip.times)
        self._streams: dict[int, _TrackStream] = {}

    def update(self, chunk: Chunk) -> None:
        """Crop and embed the faces of a chunk."""
        if self._clip.speech is None:
            return
        first, last = np.searchsorted(self._grid, [chunk.start, chunk.start + len(chunk)])
        for step in range(int(first), int(last)):
            index = int(self._grid[step]) - chunk.start
            face = chunk.faces[index] if len(chunk.faces) else None
            for key, crop in self._crops(step, chunk.generated[index], face):
                if key not in self._streams:
                    self._streams[key] = _TrackStream(step, self._embed_video)
                self._streams[key].push(crop)

    def embeddings(self) -> list[tuple[Floats32, Floats32]]:
        """Picture and sound of each track that is long enough, both [windows, features]."""
        pairs = []
        for stream in self._streams.values():
            video = stream.features()
            assert self._clip.speech is not None
            speech = self._clip.speech[stream.start * SAMPLES_PER_FRAME :][
                : stream.length * SAMPLES_PER_FRAME
            ]
            audio = self._embed_audio(speech, stream.length)
            if video is not None and len(audio):
                pairs.append((video[: len(audio)], audio[: len(video)]))
        return pairs

    def scores(self) -> list[SyncScore]:
        """One score for each track that is long enough."""
        return [sync_score(video, audio) for video, audio in self.embeddings()]

    def compute(self) -> dict[str, float]:
        """See :func:`sync_values`; nothing for a video without sound."""
        return sync_values(self.scores()) if self._clip.speech is not None else {}

    @abstractmethod
    def _crops(self, step: int, frame: Image8, face: Face | None) -> Iterator[tuple[int, Image8]]:
        """Track key and crop of every face to be scored at one step of the grid."""

    @abstractmethod
    def _embed_video(self, crops: Image8) -> Floats32:
        """[T, H, W, 3] consecutive crops -> [T - 4, features]."""

    @abstractmethod
    def _embed_audio(self, speech: npt.NDArray[np.int16], num_frames: int) -> Floats32:
        """Sound of a track of ``num_frames`` frames -> [windows, features]."""


class SyncNetScore(LipSync):
    """The published scores.

    Args:
        network: SyncNet with the released weights, in eval mode.
        view: ``frame`` for clips that are faces already, ``tracks`` for any other video.
        jpeg: pass the pictures through the JPEG coder as the published scripts do (:mod:`metrics.mjpeg`).
        device: where to compute.
    """

    def __init__(
        self,
        network: SyncNet,
        view: Literal["frame", "tracks"] = "tracks",
        jpeg: bool = True,
        device: torch.device | None = None,
    ) -> None:
        self.network = network.to(device)
        self.view = view
        self.jpeg = jpeg
        self.device = device

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        super().reset(clip)
        self._coders: dict[int, MjpegStream] = {}

    def _crops(self, step: int, frame: Image8, face: Face | None) -> Iterator[tuple[int, Image8]]:
        if self.view == "frame":
            picture = self._coded(0, frame)
            yield (
                0,
                cv2.resize(picture, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR).astype(np.uint8),
            )
            return
        for key, track in enumerate(self._clip.tracks):
            position = step - track.start
            if 0 <= position < len(track):
                yield (
                    key,
                    self._coded(key, crop_face(frame, track.centers[position], track.half_size[position])),
                )

    def _coded(self, key: int, picture: Image8) -> Image8:
        if not self.jpeg:
            return picture
        if key not in self._coders:
            self._coders[key] = MjpegStream(width=picture.shape[1], height=picture.shape[0])
        return self._coders[key](picture)

    def _embed_video(self, crops: Image8) -> Floats32:
        windows = to_float(crops, self.device).unfold(0, SYNC_FRAMES, 1)  # [T - 4, 3, 224, 224, 5]
        with torch.inference_mode():
            return self.network.embed_lips(windows.movedim(-1, 2)).float().cpu().numpy()

    def _embed_audio(self, speech: npt.NDArray[np.int16], num_frames: int) -> Floats32:
        count = num_windows(num_frames, len(speech))
        if count == 0:
            return np.zeros((0, 0), dtype=np.float32)
        cepstra = torch.from_numpy(mfcc(speech)).float()
        windows = torch.stack(
            [cepstra[None, :, start : start + MFCC_WINDOW] for start in audio_starts(count)]
        )
        with torch.inference_mode():
            return self.network.embed_audio(windows.to(self.device)).float().cpu().numpy()


class ExpertScore(LipSync):
    """The same arithmetic on the embeddings of the lip-sync expert, for where SyncNet's weights are absent.

    Embeddings have unit length and no negative numbers, so distances lie between 0 and the root of 2. Each
    uninterrupted run of frames with a face is one track; its crops are those of the training, cut at 384 pixels and
    reduced.

    Args:
        network: the expert, in eval mode.
        device: where to compute.
    """

    def __init__(self, network: LipSyncExpert, device: torch.device | None = None) -> None:
        self.network = network.to(device)
        self.device = device

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        super().reset(clip)
        self._run: tuple[int, int] | None = None  # first and last step of the current run

    def _crops(self, step: int, frame: Image8, face: Face | None) -> Iterator[tuple[int, Image8]]:
        if face is None:
            return
        first = self._run[0] if self._run is not None and self._run[1] == step - 1 else step
        self._run = (first, step)
        yield first, extract(frame, box_crop(face.box, (ENET_SIZE, ENET_SIZE)))

    def _embed_video(self, crops: Image8) -> Floats32:
        faces = shrink(to_float(crops, self.device), LNET_SIZE, self.network.config.antialias)
        windows = faces.unfold(0, SYNC_FRAMES, 1).movedim(-1, 2)
        with torch.inference_mode():
            return self.network.embed_faces(stack_lower_half(windows)).cpu().numpy()

    def _embed_audio(self, speech: npt.NDArray[np.int16], num_frames: int) -> Floats32:
        mel = torch.from_numpy(mel_spectrogram(speech.astype(np.float32) / np.float32(32768)))
        starts = [window_start(frame / TRAIN_FPS) for frame in range(num_frames - SYNC_FRAMES + 1)]
        columns = [start for start in starts if start + MEL_WINDOW <= mel.shape[1]]
        if not columns:
            return np.zeros((0, 0), dtype=np.float32)
        windows = torch.stack([mel[None, :, start : start + MEL_WINDOW] for start in columns])
        with torch.inference_mode():
            return self.network.embed_audio(windows.to(self.device)).cpu().numpy()
