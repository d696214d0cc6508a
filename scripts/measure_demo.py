"""Figures of the bundled weights on people that no training saw: ``python -m scripts.measure_demo``.

Reads the validation clips of ``data/demo/small`` (made by ``scripts.train_demo``) and the files in
``checkpoints/demo``, and writes ``runs/demo/figures.json``. What each figure means stands beside it in the
model card.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from core.checkpoint import atomic_path
from core.constants import LANDMARK_SIZE, LNET_SIZE, MEL_WINDOW, SYNC_FRAMES
from core.errors import UserError, run_command
from datasets.augment import MEL_LIMIT
from datasets.clips import PreparedClip
from datasets.collection import mel_start, to_image
from datasets.crops import cut, face_crop, mouth_opening
from datasets.manifest import read_manifest
from faces.align import landmark_crop
from losses.landmarks import normalized_mean_error
from metrics.offset import sync_score
from models.catalog import load_network
from models.landmarks import LandmarkNet
from models.lipsync_expert import LipSyncExpert
from models.lnet import LNet
from models.wav2lip import Wav2Lip
from scripts.preprocess.offsets import embed_clip

_log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Painter = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_MIN_SHIFT = 5  # frames from which a window counts as out of sync
_WINDOW = 50  # frames of an offset measurement, 2 s
_TOLERANCE = 2  # frames
_MAX_SHIFT = 15
_BATCH = 16


def landmark_error(clips: list[PreparedClip], network: LandmarkNet) -> dict[str, float]:
    """Normalised mean error of every clip, in parts of the distance of the outer eye corners."""
    errors = {}
    for clip in clips:
        frames = range(0, len(clip), 2)
        crops = [landmark_crop(clip.landmarks[frame]) for frame in frames]
        found, wanted = [], []
        for frame, crop in zip(frames, crops, strict=True):
            image = torch.from_numpy(to_image(cut(clip, frame, crop)))[None]
            found.append(network(image).points)
            wanted.append(torch.from_numpy(crop.to_crop(clip.landmarks[frame]))[None].float())
        errors[clip.folder.as_posix()] = float(
            normalized_mean_error(torch.cat(found), torch.cat(wanted)).mean()
        )
    assert crops[0].size[0] == LANDMARK_SIZE
    return errors


def sync_accuracy(video: Floats, audio: Floats) -> float:
    """Share of pairs (in sync, shifted by five frames or more) that the expert orders rightly.

    Args:
        video: [windows, D] embeddings.
        audio: [windows, D] embeddings of the same places.
    """
    cosine = video @ audio.T
    apart = np.abs(np.subtract.outer(np.arange(len(video)), np.arange(len(audio))))
    right = np.diag(cosine)[:, None] > cosine
    return float(right[apart >= _MIN_SHIFT].mean())


def offsets_of_windows(video: Floats, audio: Floats) -> list[int]:
    """The expert's best offset of every stretch of two seconds, a second apart, in frames."""
    stretches = range(0, max(1, len(video) - _WINDOW + SYNC_FRAMES), _WINDOW // 2)
    return [
        sync_score(video[start : start + _WINDOW], audio[start : start + _WINDOW], _MAX_SHIFT).offset
        for start in stretches
    ]


def redub(clip: PreparedClip, mel: Floats, painter: Painter) -> Floats:
    """A clip's faces with new speech.

    The reference is the clip's own frame with the most closed mouth, for every frame the same.

    Args:
        clip: whose picture.
        mel: [80, columns] whose speech.
        painter: (audio [T, 1, 80, 16], faces [T, 6, 96, 96]) -> [T, 3, 96, 96].

    Returns:
        [T, 3, 96, 96] in [0, 1], as many frames as both last.
    """
    count = min(len(clip), int((mel.shape[1] - MEL_WINDOW) / 3.2) + 1)
    closed = int(mouth_opening(clip.landmarks).argmin())
    reference = to_image(cut(clip, closed, face_crop(clip, closed, LNET_SIZE)))
    painted = []
    for first in range(0, count, _BATCH):
        frames = range(first, min(first + _BATCH, count))
        masked = np.stack([to_image(cut(clip, index, face_crop(clip, index, LNET_SIZE))) for index in frames])
        masked[:, :, LNET_SIZE // 2 :] = 0.0
        faces = np.concatenate([masked, np.repeat(reference[None], len(frames), axis=0)], axis=1)
        audio = np.stack([mel[None, :, mel_start(index) :][..., :MEL_WINDOW] for index in frames])
        painted.append(painter(torch.from_numpy(audio), torch.from_numpy(faces)).clamp(0.0, 1.0).numpy())
    return np.concatenate(painted)


def embed_painted(painted: Floats, mel: Floats, expert: LipSyncExpert) -> tuple[Floats, Floats]:
    """Embeddings of painted faces [T, 3, 96, 96] and of the speech they were painted for."""
    halves = painted[:, :, LNET_SIZE // 2 :]
    starts = range(len(painted) - SYNC_FRAMES + 1)
    seen = np.stack([halves[start : start + SYNC_FRAMES].reshape(-1, *halves.shape[2:]) for start in starts])
    heard = np.stack([mel[None, :, mel_start(start) :][..., :MEL_WINDOW] for start in starts])
    return expert.embed_faces(torch.from_numpy(seen)).numpy(), expert.embed_audio(
        torch.from_numpy(heard)
    ).numpy()


def opening_of(painted: Floats, network: LandmarkNet, clip: PreparedClip) -> Floats:
    """Mouth opening [T] of painted faces, measured by the landmark network, in distances of the eyes."""
    view = face_crop(clip, 0, LNET_SIZE)
    crop = landmark_crop(view.to_crop(clip.landmarks[0]))
    import cv2

    openings = []
    for face in painted:
        image = cv2.warpAffine(
            np.ascontiguousarray(np.moveaxis(face, 0, -1)),
            crop.matrix,
            crop.size,
            borderMode=cv2.BORDER_REPLICATE,
        )
        points = network(torch.from_numpy(np.moveaxis(image, -1, 0))[None].float()).points
        openings.append(mouth_opening(points.numpy())[0])
    return np.asarray(openings, dtype=np.float32)


def measure_painter(
    painter: Painter, clips: list[PreparedClip], expert: LipSyncExpert, landmarks: LandmarkNet
) -> dict[str, float]:
    """Sync with another clip's speech, and what the mouth does in silence.

    Args:
        painter: as in :func:`redub`.
        clips: with sound; each speaks with the voice of the next one.
        expert: judge.
        landmarks: measures the mouth.
    """
    offsets: list[int] = []
    ratios = []
    for index, clip in enumerate(tqdm(clips, desc="redub")):
        mel = clips[(index + 1) % len(clips)].mel
        spoken = redub(clip, mel, painter)
        if len(spoken) >= _WINDOW:
            offsets += offsets_of_windows(*embed_painted(spoken, mel, expert))
        silent = redub(clip, np.full_like(mel, -MEL_LIMIT), painter)
        spread = [float(opening_of(faces, landmarks, clip).std()) for faces in (silent, spoken)]
        ratios.append(spread[0] / max(spread[1], 1e-6))
    return {
        "offset_within_2": float(np.mean(np.abs(offsets) <= _TOLERANCE)),
        "offset_windows": float(len(offsets)),
        "silent_over_spoken_opening": float(np.mean(ratios)),
    }


def _validation(root: Path) -> Iterator[PreparedClip]:
    for entry in read_manifest(root):
        if entry.split == "val":
            yield PreparedClip(root / entry.clip)


@torch.inference_mode()
def measure(root: Path, checkpoints: Path) -> dict[str, object]:
    """All figures of the weights that are there.

    Raises:
        UserError: no landmark network or no validation clip.
    """

    def file(name: str) -> Path:
        return checkpoints / f"{name}.safetensors"

    clips = list(_validation(root))
    if not clips:
        raise UserError(f"{root} has no validation clips: run scripts.train_demo first")
    landmarks = load_network(file("landmarks"), "landmarks")
    assert isinstance(landmarks, LandmarkNet)
    figures: dict[str, object] = {}
    errors = landmark_error(clips, landmarks)
    figures["landmarks"] = {"nme": float(np.mean(list(errors.values()))), "nme_of_clips": errors}
    with_sound = [clip for clip in clips if clip.has("mel") and len(clip) > 2 * _MIN_SHIFT + SYNC_FRAMES]
    if file("lipsync_expert").is_file():
        expert = load_network(file("lipsync_expert"), "lipsync_expert")
        assert isinstance(expert, LipSyncExpert)
        pairs = [embed_clip(clip, expert) for clip in tqdm(with_sound, desc="expert")]
        offsets = [offset for pair in pairs for offset in offsets_of_windows(*pair)]
        figures["lipsync_expert"] = {
            "accuracy": float(np.mean([sync_accuracy(*pair) for pair in pairs])),
            "offset_within_2": float(np.mean(np.abs(offsets) <= _TOLERANCE)),
        }
        for name in ("lnet", "wav2lip"):
            if file(name).is_file():
                network = load_network(file(name), name)
                assert isinstance(network, (LNet, Wav2Lip))
                figures[name] = measure_painter(network, with_sound, expert, landmarks)
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the bundled weights")
    parser.add_argument("--root", type=Path, default=Path("data/demo/small"), help="prepared clips")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints/demo"))
    parser.add_argument("--output", type=Path, default=Path("runs/demo/figures.json"))
    arguments = parser.parse_args()
    figures = measure(arguments.root, arguments.checkpoints)
    with atomic_path(arguments.output) as temporary:
        temporary.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    _log.info("%s: %s", arguments.output, json.dumps(figures))


if __name__ == "__main__":
    run_command(main)
