"""How far sound carries: the opening of the mouth by a ridge regression on the features of the audio encoder.

What a linear map cannot read from the features of strangers' speech, the networks behind them will hardly paint.
Whether a dubbed video as a whole follows its speech is for a judge that has nothing to do with these networks, such
as a regression from sound to the landmarks of another tool (docs/training.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from videoretalking.core.arrays import Floats64
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.manifest import read_manifest
from videoretalking.datasets.mouths import inner_lip_gap
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.models.lnet import LNet
from videoretalking.scripts.demo_figures.sync import num_speech_frames, speech_windows

PENALTIES = (10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)
_FOLDS = 5  # of the people who train, to choose the penalty
_LEAST_FRAMES = 25  # of a clip whose own correlation is taken
_BATCH = 256


@dataclass(frozen=True)
class HeardClip:
    """Speech and mouth of one clip.

    Attributes:
        identity: who speaks.
        features: [N, F], what is known of the sound of each frame.
        opening: [N], how far the mouth is open, without the clip's mean.
    """

    identity: str
    features: Floats64
    opening: Floats64


def measure_hearing(root: Path, network: LipSyncExpert | LNet) -> dict[str, Any]:
    """Correlation of the predicted with the real opening, on people whose clips the regression did not see.

    Args:
        root: prepared clips; those that train fit the regression.
        network: its audio encoder makes the features.

    Returns:
        ``features_r`` over all frames of strangers, ``features_r_in_clips`` as the mean over clips,
        ``features_r_trained`` on the clips of the fit; the same with ``mel_``, from the spectrogram itself. None
        where nobody speaks.
    """
    clips: dict[str, list[tuple[str, PreparedClip]]] = {"train": [], "val": []}
    for entry in read_manifest(root):
        clip = PreparedClip(root / entry.clip)
        if entry.split in clips and clip.has("mel") and clip.has("landmarks") and len(clip) > 1:
            clips[entry.split].append((entry.identity, clip))
    figures: dict[str, Any] = {}
    for name in ("features", "mel"):
        heard = {
            split: [
                hear(identity, clip, network if name == "features" else None)
                for identity, clip in tqdm(members, desc=f"{name}, {split}", delay=2.0)
            ]
            for split, members in clips.items()
        }
        found = regress(heard["train"], heard["val"]) if heard["train"] and heard["val"] else {}
        figures |= {f"{name}_{key}": found.get(key) for key in ("r", "r_in_clips", "r_trained")}
    return figures


def hear(identity: str, clip: PreparedClip, network: LipSyncExpert | LNet | None) -> HeardClip:
    """Frames of a clip with a whole speech window: the encoder's features, without a network the window itself."""
    count = min(len(clip), num_speech_frames(clip.mel))
    windows = speech_windows(clip.mel, range(count))
    opening = inner_lip_gap(clip.landmarks[:count]).astype(np.float64)
    if network is None:
        features = windows.reshape(count, -1).astype(np.float64)
    else:
        parts = [
            network.audio_encoder(torch.from_numpy(windows[first : first + _BATCH])).flatten(1)
            for first in range(0, count, _BATCH)
        ]
        features = torch.cat(parts).double().numpy()
    return HeardClip(identity, features, opening - opening.mean())


def regress(train: Sequence[HeardClip], strangers: Sequence[HeardClip]) -> dict[str, float | None]:
    """Fit on some people, with the penalty that serves people left out of the fit best, and try on strangers."""
    people = sorted({clip.identity for clip in train})
    folds = {identity: number % _FOLDS for number, identity in enumerate(people)}
    chosen = PENALTIES[0]
    if len(people) > 1:
        scores = dict.fromkeys(PENALTIES, 0.0)
        for fold in range(min(_FOLDS, len(people))):
            kept = [clip for clip in train if folds[clip.identity] != fold]
            left = [clip for clip in train if folds[clip.identity] == fold]
            for penalty, predict in zip(PENALTIES, _fit(kept, PENALTIES), strict=True):
                scores[penalty] += _pooled(predict, left) or 0.0
        chosen = max(scores, key=scores.__getitem__)
    (predict,) = _fit(train, (chosen,))
    own = [
        correlation(predict(clip.features), clip.opening)
        for clip in strangers
        if len(clip.opening) >= _LEAST_FRAMES
    ]
    known = [value for value in own if value is not None]
    return {
        "r": _pooled(predict, strangers),
        "r_in_clips": float(np.mean(known)) if known else None,
        "r_trained": _pooled(predict, train),
    }


@dataclass(frozen=True)
class _Ridge:
    mean: Floats64
    spread: Floats64
    weights: Floats64
    level: float

    def __call__(self, features: Floats64) -> Floats64:
        """[N, F] -> [N]."""
        return np.asarray((features - self.mean) / self.spread @ self.weights + self.level)


def _fit(clips: Sequence[HeardClip], penalties: Sequence[float]) -> list[_Ridge]:
    """Ridge regressions on standardized features, one for each penalty."""
    features = np.concatenate([clip.features for clip in clips])
    opening = np.concatenate([clip.opening for clip in clips])
    mean, spread, level = features.mean(axis=0), features.std(axis=0) + 1e-6, float(opening.mean())
    scaled = (features - mean) / spread
    covariance, target = scaled.T @ scaled, scaled.T @ (opening - level)
    return [
        _Ridge(mean, spread, np.linalg.solve(covariance + penalty * np.eye(len(mean)), target), level)
        for penalty in penalties
    ]


def _pooled(predict: _Ridge, clips: Sequence[HeardClip]) -> float | None:
    predicted = np.concatenate([predict(clip.features) for clip in clips])
    return correlation(predicted, np.concatenate([clip.opening for clip in clips]))


def correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Pearson's correlation of two series; None where one does not vary or there are fewer than three values."""
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(one) < 3 or one.std() < 1e-9 or other.std() < 1e-9:
        return None
    return float(np.corrcoef(one, other)[0, 1])
