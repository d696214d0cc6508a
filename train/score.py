"""Validation by whole clips: the sync scores LSE-D and LSE-C of what L-Net and Wav2Lip paint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from videoretalking.core.constants import SAMPLE_RATE, SYNC_FRAMES, TRAIN_FPS
from videoretalking.core.locations import checkpoint_folder, find_weights
from videoretalking.datasets.lnet import LNetClips
from videoretalking.metrics.mfcc import COLUMNS_PER_SECOND, FRAME_LENGTH, FRAME_STEP, mfcc
from videoretalking.metrics.offset import sync_score
from videoretalking.models.catalog import load_network
from videoretalking.models.layers.blocks import resize
from videoretalking.models.lipsync_expert import LipSyncExpert, stack_lower_half
from videoretalking.models.syncnet import SyncNet
from videoretalking.train.steps.base import as_tensors

_SYNCNET_SIZE = 224
_WINDOWS_AT_ONCE = 16


class SyncJudge(ABC):
    """Embeds windows of five frames and their speech.

    Attributes:
        name: ends the names of the figures, because figures of different judges cannot be compared.
        device: where it computes.
    """

    name: ClassVar[str]
    device: torch.device

    @abstractmethod
    def embed_faces(self, windows: torch.Tensor) -> torch.Tensor:
        """[N, 3, 5, 96, 96] in [0, 1] -> [N, D]."""

    @abstractmethod
    def embed_speech(self, dataset: LNetClips, clip: int, starts: Sequence[int]) -> torch.Tensor:
        """The speech of the windows of a clip that begin at these frames: [N, D], N at most their number."""


class ExpertJudge(SyncJudge):
    """The bundled lip-sync expert, which is small and says only which of two networks is better.

    Args:
        network: the expert.
        device: where it is.
    """

    name = "expert"

    def __init__(self, network: LipSyncExpert, device: torch.device) -> None:
        self.network = network
        self.device = device

    def embed_faces(self, windows: torch.Tensor) -> torch.Tensor:
        """Embed the lower halves."""
        return self.network.embed_faces(stack_lower_half(windows))

    def embed_speech(self, dataset: LNetClips, clip: int, starts: Sequence[int]) -> torch.Tensor:
        """Embed mel windows."""
        windows = np.stack([dataset.clips.clip_window(clip, start) for start in starts])
        return self.network.embed_audio(torch.from_numpy(windows).to(self.device))


class SyncNetJudge(SyncJudge):
    """The released SyncNet on face crops; the published scores see wider crops of whole frames, so differ.

    Args:
        network: SyncNet.
        device: where it is.
    """

    name = "syncnet"

    def __init__(self, network: SyncNet, device: torch.device) -> None:
        self.network = network
        self.device = device

    def embed_faces(self, windows: torch.Tensor) -> torch.Tensor:
        """Embed the faces, enlarged to 224 pixels."""
        embedded = []
        for part in windows.split(_WINDOWS_AT_ONCE):
            frames = resize(part.transpose(1, 2).flatten(0, 1), _SYNCNET_SIZE).unflatten(0, (-1, SYNC_FRAMES))
            embedded.append(self.network.embed_lips(frames.transpose(1, 2)))
        return torch.cat(embedded)

    def embed_speech(self, dataset: LNetClips, clip: int, starts: Sequence[int]) -> torch.Tensor:
        """Embed windows of cepstral coefficients."""
        first, last = (
            round(frame / TRAIN_FPS * SAMPLE_RATE) for frame in (starts[0], starts[-1] + SYNC_FRAMES)
        )
        wave = dataset.clips.clip(clip).wave[first:last]
        length = round(COLUMNS_PER_SECOND * SYNC_FRAMES / TRAIN_FPS)
        # the columns of a window reach beyond its five frames, with which a clip may end
        wave = np.pad(wave, (0, max(0, (length - 1) * FRAME_STEP + FRAME_LENGTH - len(wave))))
        columns = torch.from_numpy(mfcc(np.rint(32768.0 * wave).astype(np.int16))).float()
        windows = columns.unfold(1, length, round(COLUMNS_PER_SECOND / TRAIN_FPS)).transpose(0, 1)
        return self.network.embed_audio(windows[: len(starts), None].to(self.device))


def choose_judge(device: torch.device) -> SyncJudge | None:
    """SyncNet where its converted weights are, else the bundled expert; None where neither is."""
    path = find_weights("syncnet.safetensors")
    if path is not None:
        network = load_network(path, expected="syncnet", device=device)
        assert isinstance(network, SyncNet)
        return SyncNetJudge(network, device)
    path = find_weights("lipsync_expert.safetensors", (checkpoint_folder("demo"),))
    if path is None:
        return None
    expert = load_network(path, expected="lipsync_expert", device=device)
    assert isinstance(expert, LipSyncExpert)
    return ExpertJudge(expert, device)


def score_speech(
    paint: Callable[[dict[str, Any]], torch.Tensor],
    judge: SyncJudge,
    dataset: LNetClips,
    clips: Sequence[int],
    num_frames: int,
) -> dict[str, float]:
    """LSE-D and LSE-C of clips with their own speech, each painted from its first frame as the reference.

    Args:
        paint: batch of :class:`LNetClips` -> faces [B, 3, T, 96, 96].
        judge: who embeds.
        dataset: where the clips are.
        clips: their indices.
        num_frames: most frames of a clip.

    Returns:
        ``lse_d_<judge>`` (lower is better) and ``lse_c_<judge>`` (higher is better), means over the clips.
    """
    distances, confidences = [], []
    for clip in clips:
        output = paint(as_tensors(dataset.preview(clip, num_frames), judge.device))[
            0
        ].float()  # [3, T, 96, 96]
        with torch.autocast(judge.device.type, enabled=False):
            seen = judge.embed_faces(output.unfold(1, SYNC_FRAMES, 1).permute(1, 0, 4, 2, 3))
            heard = judge.embed_speech(dataset, clip, dataset.clips.usable_frames(clip)[: len(seen)])
        count = min(len(seen), len(heard))
        score = sync_score(seen[:count].cpu().numpy(), heard[:count].cpu().numpy())
        distances.append(score.min_distance)
        confidences.append(score.confidence)
    return {
        f"lse_d_{judge.name}": float(np.mean(distances)),
        f"lse_c_{judge.name}": float(np.mean(confidences)),
    }
