"""Whole dubs of held-out people, frame against source frame: own speech, another person's speech, and silence."""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from videoretalking.core.arrays import Flags, Floats32, Image8
from videoretalking.core.coefficients import ANGLES
from videoretalking.core.constants import SAMPLE_RATE, TRAIN_FPS
from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.mouths import inner_lip_gap
from videoretalking.media.reader import VideoInfo
from videoretalking.media.writer import VideoWriter
from videoretalking.models.landmarks import LandmarkNet
from videoretalking.pipeline.analyze import Analysis
from videoretalking.pipeline.config import InferenceConfig, RenderConfig, RuntimeConfig, WeightsConfig
from videoretalking.pipeline.retalker import Retalker
from videoretalking.scripts.demo_figures.clips import HeldOutClip, mean
from videoretalking.scripts.demo_figures.find import find_landmarks
from videoretalking.scripts.demo_figures.hearing import correlation
from videoretalking.scripts.demo_figures.pictures import (
    EDGES,
    cheek_color,
    color_error,
    lip_color,
    mouth_detail,
    seam_ratio,
)

SPEECHES = ("own", "foreign")
LEAST_FRAMES = 25  # that a dub must have changed, else the clip counts as not found
_STEADY = 1e-4  # eye distances: a mouth that moves less stands still
_TURNED_YAW, _TURNED_ROLL = 20.0, 10.0  # degrees, from which on a head counts as turned or tilted
_LEAST_TURNED = 5  # frames of a clip: fewer are no figure


@dataclass(frozen=True)
class Dub:
    """The frames of a result in which a face was changed.

    Attributes:
        source: uint8 [H, W, 3] each, the frames they were made from.
        result: the same shapes.
        around: [N, 68, 2] landmarks of the face in the source, by the pipeline.
        boxes: [N, 4] the crop that was painted.
        angles: [N, 3] degrees by which the head is turned: pitch, yaw, roll.
    """

    source: list[Image8]
    result: list[Image8]
    around: Floats32
    boxes: Floats32
    angles: Floats32

    @property
    def turned(self) -> Flags:
        """[N] whether the head is turned to a side or tilted."""
        _, yaw, roll = np.abs(self.angles).T
        return (yaw > _TURNED_YAW) | (roll > _TURNED_ROLL)


def make_retalker(checkpoints: Path, cache: Path) -> Retalker:
    """The main job with some weights; results are as long as the shorter of picture and sound.

    Raises:
        UserError: the weights are not complete.
    """
    config = InferenceConfig(
        weights=WeightsConfig(family=str(checkpoints)),
        render=RenderConfig(pad="cut"),
        runtime=RuntimeConfig(cache_dir=str(cache)),
    )
    return Retalker.from_pretrained(config)


def measure_dubs(
    clips: Sequence[HeldOutClip], retalker: Retalker, landmarks: LandmarkNet, num_frames: int
) -> dict[str, Any]:
    """Dub each clip with its own speech, the next person's, and silence.

    Args:
        clips: with sound.
        retalker: of :func:`make_retalker`.
        landmarks: finds the mouths of sources and results alike.
        num_frames: most frames of a clip.

    Returns:
        Means over the clips in which a face was found, and each clip's figures (:func:`dub_figures`). Beside them
        ``seam_worst``, the highest ``seam_edge`` of all clips and speeches, and ``seam_turned``, that of the frames
        in which heads are turned or tilted (None without such frames), each with its clip (``seam_worst_clip``).

    Raises:
        UserError: no face was found in any of them.
    """
    by_clip: dict[str, dict[str, float | None]] = {}
    not_found = []
    for place, item in enumerate(tqdm(clips, desc="dubs")):
        others = [other for other in [*clips[place + 1 :], *clips[:place]] if other.identity != item.identity]
        count = min(num_frames, len(item.clip))
        sounds = {"own": item.clip.wave, "silent": np.zeros_like(item.clip.wave)}
        if others:
            sounds["foreign"] = others[0].clip.wave
        dubs = make_dubs(retalker, item.clip, sounds, count)
        if min(len(dub.result) for dub in dubs.values()) < LEAST_FRAMES:
            not_found.append(item.name)
        else:
            by_clip[item.name] = dub_figures(dubs, landmarks)
    if not by_clip:
        raise UserError("no face was found in any of the clips that were to be dubbed")
    names = list(dict.fromkeys(name for figures in by_clip.values() for name in figures))
    means = {
        name: mean([value for figures in by_clip.values() if (value := figures.get(name)) is not None])
        for name in names
    }
    worst = highest(by_clip, "seam_worst", "seam_edge") | highest(by_clip, "seam_turned", "seam_turned")
    return {**means, **worst, "dubs_of_clips": by_clip, "dubs_without_face": not_found}


def highest(by_clip: Mapping[str, Mapping[str, float | None]], name: str, figure: str) -> dict[str, Any]:
    """The highest value of a figure in all clips and speeches as ``name``, and the clip that has it."""
    found = [
        (value, clip)
        for clip, figures in by_clip.items()
        for speech in SPEECHES
        if (value := figures.get(f"{figure}_{speech}")) is not None
    ]
    value, clip = max(found, default=(None, None))
    return {name: value, f"{name}_clip": clip}


def make_dubs(
    retalker: Retalker, clip: PreparedClip, sounds: Mapping[str, Floats32], count: int
) -> dict[str, Dub]:
    """The first ``count`` frames of a clip under several sounds, each [samples] at 16 kHz."""
    frames = [clip.frame(number) for number in range(count)]
    samples = round(count / TRAIN_FPS * SAMPLE_RATE)
    with TemporaryDirectory() as folder:
        video = Path(folder, "video.mkv")
        write_video(video, frames)
        analysis = retalker.analyze(video)
        dubs = {}
        for name, sound in sounds.items():
            path = Path(folder, f"{name}.wav")
            write_sound(path, np.resize(sound, samples))
            dubs[name] = _dub(retalker, analysis, path, frames)
    return dubs


def _dub(retalker: Retalker, analysis: Analysis, sound: Path, frames: Sequence[Image8]) -> Dub:
    dub = Dub([], [], *(np.zeros((0, *shape), np.float32) for shape in ((68, 2), (4,), (3,))))
    if not analysis.tracks:
        return dub
    track = analysis.tracks[0]
    numbers = []
    for frame in retalker.frames(analysis, sound):
        if frame.report.faces:
            numbers.append(frame.report.source)
            dub.source.append(frames[frame.report.source])
            dub.result.append(np.asarray(frame.image, np.uint8))
    return replace(
        dub,
        around=track.landmarks[numbers].astype(np.float32),
        boxes=track.boxes[numbers].astype(np.float32),
        angles=np.degrees(track.rows[numbers, ANGLES]).astype(np.float32),
    )


def dub_figures(dubs: Mapping[str, Dub], network: LandmarkNet) -> dict[str, float | None]:
    """The figures of one clip.

    Args:
        dubs: ``own``, ``silent`` and, where somebody else speaks, ``foreign``.
        network: finds the mouths.

    Returns:
        For own and foreign speech, behind ``_own`` and ``_foreign``: ``sharpness`` of the mouth over the source's;
        ``lips`` and ``cheeks``, distances of their colors (a, b) from the source's; ``seam``, the slope across the
        border of the painted crop over the source's, ``seam_edge``, the same at the worst of its three edges, and
        ``seam_turned``, that of the frames in which the head is turned or tilted; ``opening_spread``, the standard
        deviation of the opening over the source's. ``opening_r``: correlation with the real opening under the own
        speech; ``leak_r``: with the source's own under foreign speech (0 is ideal). ``silence``: the opening's
        variation in silence over that in foreign speech, or in the own without any.
    """
    figures: dict[str, float | None] = {}
    openings: dict[str, tuple[Floats32, Floats32]] = {}
    for name, dub in dubs.items():
        source = find_landmarks(dub.source, list(dub.around), network)
        result = find_landmarks(dub.result, list(dub.around), network)
        openings[name] = (inner_lip_gap(source), inner_lip_gap(result))
        if name in SPEECHES:
            compared = compare(dub, source, result)
            figures |= {f"{figure}_{name}": value for figure, value in compared.items()}
            figures[f"opening_spread_{name}"] = _ratio(openings[name][1], openings[name][0])
    figures["opening_r"] = correlation(*openings["own"])
    spoken = openings.get("foreign", openings["own"])
    if "foreign" in openings:
        figures["leak_r"] = correlation(*openings["foreign"])
    figures["silence"] = _ratio(openings["silent"][1], spoken[1])
    return figures


def compare(dub: Dub, source: Floats32, result: Floats32) -> dict[str, float | None]:
    """The pictures of a dub beside its source.

    Args:
        dub: the frames.
        source: [N, 68, 2] landmarks of the source frames.
        result: those of the results.

    Returns:
        ``sharpness``, ``lips``, ``cheeks``, ``seam``, ``seam_edge`` and ``seam_turned`` (see :func:`dub_figures`),
        means over the frames; None where nothing was measured.
    """
    details: list[tuple[float, float]] = []
    lips, cheeks, seams = [], [], []
    for before, after, points, new, box in zip(
        dub.source, dub.result, source, result, dub.boxes, strict=True
    ):
        pair = mouth_detail(after, points), mouth_detail(before, points)
        if pair[0] is not None and pair[1] is not None:
            details.append((pair[0], pair[1]))
        lips.append(color_error(lip_color(after, new), lip_color(before, points)))
        cheeks.append(color_error(cheek_color(after, points), cheek_color(before, points)))
        seams.append(seam_ratio(after, before, box))
    after_detail, before_detail = (
        (sum(values) for values in zip(*details, strict=True)) if details else (0, 0)
    )
    return {
        "sharpness": after_detail / before_detail if before_detail else None,
        "lips": mean([value for value in lips if value is not None]),
        "cheeks": mean([value for value in cheeks if value is not None]),
        "seam": mean([value for value in seams if value is not None]),
        "seam_edge": worst_edge(dub, np.ones(len(dub.result), bool)),
        "seam_turned": worst_edge(dub, dub.turned) if dub.turned.sum() >= _LEAST_TURNED else None,
    }


def worst_edge(dub: Dub, wanted: Flags) -> float | None:
    """The seam at the worst edge of the painted crop, mean over the wanted frames: one edge can show alone."""
    frames = [
        (dub.result[number], dub.source[number], dub.boxes[number]) for number in np.flatnonzero(wanted)
    ]
    by_edge = [[seam_ratio(*frame, (edge,)) for frame in frames] for edge in EDGES]
    means = [mean([value for value in values if value is not None]) for values in by_edge]
    return max((value for value in means if value is not None), default=None)


def _ratio(varying: Floats32, against: Floats32) -> float | None:
    """Standard deviation over another; None where the other hardly moves."""
    return None if against.std() < _STEADY else float(varying.std() / against.std())


def write_video(path: Path, frames: Sequence[Image8]) -> None:
    """Frames as a video of 25 frames a second without any loss."""
    height, width = frames[0].shape[:2]
    info = VideoInfo(width=width, height=height, fps=Fraction(TRAIN_FPS).limit_denominator(1001))
    with VideoWriter(path, info, codec="ffv1") as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, number / TRAIN_FPS, 1.0 / TRAIN_FPS)


def write_sound(path: Path, sound: Floats32) -> None:
    """[samples] in [-1, 1] at 16 kHz as a WAV file of 16 bits."""
    with wave.open(str(path), "wb") as handle:
        handle.setnchannels(1)
        handle.setsampwidth(2)
        handle.setframerate(SAMPLE_RATE)
        handle.writeframes(np.clip(np.rint(sound * 32768.0), -32768, 32767).astype("<i2").tobytes())
