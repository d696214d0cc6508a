"""A small corpus of drawn talking faces: videos with sound, and the labels of their landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from video_samples import write_wave

from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.synthetic import SIZE, write_synthetic_clip
from videoretalking.media.reader import VideoInfo
from videoretalking.media.writer import VideoWriter


def write_corpus(root: Path, labels: Path, names: Sequence[str], num_frames: int = 30) -> None:
    """Write ``<root>/<name>.mp4`` and ``<labels>/<name>.npz`` (see ``scripts.preprocess.label_landmarks``)."""
    for seed, name in enumerate(names):
        drawn = root.parent / "drawn" / name
        write_synthetic_clip(drawn, seed, num_frames)
        clip = PreparedClip(drawn)
        video, label = root / f"{name}.mp4", labels / f"{name}.npz"
        for path in (video, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        sound = write_wave(drawn / "sound.wav", (clip.wave * 32767.0).astype(np.int16))
        with VideoWriter(video, VideoInfo(SIZE, SIZE), preset="ultrafast", audio=sound) as writer:
            for index in range(num_frames):
                writer.write(clip.frame(index), index / 25.0)
        np.savez(
            label,
            points=clip.landmarks,
            found=np.ones(num_frames, bool),
            time=np.arange(num_frames) / 25.0,
            size=np.array([SIZE, SIZE]),
        )
