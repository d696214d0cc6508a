"""Attacks on marked pictures: encoding, geometry, time, brightness, damage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from videoretalking.core.arrays import Image8

Frames = list[Image8]
FPS = 25


@dataclass(frozen=True)
class Encode:
    """One encoding, 4:2:0."""

    codec: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attack:
    """What happens to marked frames on their way to the detector.

    Attributes:
        name: row of the table.
        target: share of pieces that shall be read, in percent; 0 for what nobody asked for.
        change: frames to frames.
        encodes: one after the other; none leaves the frames as they are.
        quick: whether it belongs to the short run.
    """

    name: str
    target: float
    change: Callable[[Frames], Frames] = lambda frames: frames
    encodes: Sequence[Encode] = ()
    quick: bool = False


def x264(crf: int) -> Encode:
    """H.264 with the encoder's own settings."""
    return Encode("libx264", {"crf": str(crf)})


X265 = Encode("libx265", {"crf": "28", "x265-params": "log-level=none"})
VP9 = Encode("libvpx-vp9", {"crf": "33", "b": "0", "deadline": "realtime", "cpu-used": "6"})
AV1 = Encode("libsvtav1", {"crf": "40", "preset": "10"})
LOSSLESS = Encode("ffv1")


def write(path: Path, frames: Frames, encode: Encode = LOSSLESS) -> None:
    """Encode frames into a Matroska file; odd sizes lose a row or a column, as 4:2:0 demands."""
    height, width = (size - size % 2 for size in frames[0].shape[:2])
    with av.open(str(path), "w", format="matroska") as container:
        stream: Any = container.add_stream(encode.codec, rate=FPS, options=dict(encode.options))
        stream.width, stream.height = width, height
        stream.pix_fmt = "bgr0" if encode is LOSSLESS else "yuv420p"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read(path: Path) -> Frames:
    """All frames of a file."""
    with av.open(str(path)) as container:
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
            for frame in container.decode(video=0)
        ]


def apply(attack: Attack, frames: Frames, path: Path) -> None:
    """Attack frames and leave the result at ``path``."""
    frames = attack.change(frames)
    for encode in attack.encodes[:-1]:
        write(path, frames, encode)
        frames = read(path)
    write(path, frames, attack.encodes[-1] if attack.encodes else LOSSLESS)


def scale(across: float, down: float) -> Callable[[Frames], Frames]:
    """Resize; 1 keeps a side."""

    def change(frames: Frames) -> Frames:
        height, width = frames[0].shape[:2]
        size = (2 * round(width * across / 2), 2 * round(height * down / 2))
        way = cv2.INTER_AREA if across * down < 1 else cv2.INTER_CUBIC
        return [np.asarray(cv2.resize(frame, size, interpolation=way), dtype=np.uint8) for frame in frames]

    return change


def crop(share: float) -> Callable[[Frames], Frames]:
    """Cut a share off each side."""

    def change(frames: Frames) -> Frames:
        height, width = frames[0].shape[:2]
        top, left = round(height * share), round(width * share)
        return [frame[top : height - top, left : width - left] for frame in frames]

    return change


def shift(frames: Frames) -> Frames:
    """Cut a little off two sides: the tile begins elsewhere."""
    return [frame[7:, 13:] for frame in frames]


def rotate(degrees: float) -> Callable[[Frames], Frames]:
    """Turn about the middle; corners become black."""

    def change(frames: Frames) -> Frames:
        height, width = frames[0].shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        return [
            np.asarray(cv2.warpAffine(frame, matrix, (width, height)), dtype=np.uint8) for frame in frames
        ]

    return change


def each(change: Callable[[Image8], Any]) -> Callable[[Frames], Frames]:
    """Change every frame alike."""
    return lambda frames: [np.clip(change(frame), 0, 255).astype(np.uint8) for frame in frames]


def noise(frames: Frames) -> Frames:
    """Grain of 8 gray levels, new in each frame."""
    rng = np.random.default_rng(0)
    return each(lambda frame: frame + rng.normal(0, 8, frame.shape))(frames)


def logo(frames: Frames) -> Frames:
    """A plain rectangle over a tenth of the picture."""
    height, width = frames[0].shape[:2]
    down, across = round(height * 0.316), round(width * 0.316)
    marked = [frame.copy() for frame in frames]
    for frame in marked:
        frame[-down:, -across:] = (230, 40, 40)
    return marked


def faster(frames: Frames) -> Frames:
    """From 25 to 30 frames a second: every fifth comes twice."""
    return [frames[number * 25 // 30] for number in range(len(frames) * 30 // 25)]


def quicker(frames: Frames) -> Frames:
    """A quarter faster: every fifth frame is left out."""
    return [frame for number, frame in enumerate(frames) if number % 5 != 4]


def letterbox(frames: Frames) -> Frames:
    """Black bars above and below, a sixth of the picture each."""
    bar = len(frames[0]) // 6
    return [np.pad(frame, ((bar, bar), (0, 0), (0, 0))) for frame in frames]


def perspective(frames: Frames) -> Frames:
    """The upper edge seen 4 % shorter than the lower one."""
    height, width = frames[0].shape[:2]
    here = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    there = here.copy()
    there[0, 0], there[1, 0] = 0.02 * width, 0.98 * width
    matrix = cv2.getPerspectiveTransform(here, there)
    return [
        np.asarray(cv2.warpPerspective(frame, matrix, (width, height)), dtype=np.uint8) for frame in frames
    ]


def inset(frames: Frames) -> Frames:
    """At half its size in a corner of another picture."""
    height, width = frames[0].shape[:2]
    rng = np.random.default_rng(1)
    coarse = np.asarray(rng.uniform(30, 225, (5, 7, 3)), dtype=np.float32)
    ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + rng.normal(
        0, 3, (height, width, 3)
    )
    whole = np.clip(ground, 0, 255).astype(np.uint8)
    results: Frames = []
    for small in scale(0.5, 0.5)(frames):
        whole = whole.copy()
        whole[-len(small) :, -small.shape[1] :] = small
        results.append(whole)
    return results


def to_short_side(pixels: int) -> Callable[[Frames], Frames]:
    """As services shrink uploads; what is smaller stays."""

    def change(frames: Frames) -> Frames:
        share = min(1.0, pixels / min(frames[0].shape[:2]))
        return scale(share, share)(frames)

    return change


ATTACKS = (
    Attack("none", 100, quick=True),
    Attack("H.264 CRF 23", 100, encodes=[x264(23)]),
    Attack("H.264 CRF 28", 100, encodes=[x264(28)], quick=True),
    Attack("H.264 CRF 35", 99, encodes=[x264(35)], quick=True),
    Attack("HEVC CRF 28", 100, encodes=[X265]),
    Attack("VP9 CRF 33", 100, encodes=[VP9]),
    Attack("H.264 CRF 23, then CRF 28", 100, encodes=[x264(23), x264(28)]),
    Attack("75 %", 98, scale(0.75, 0.75)),
    Attack("50 %", 98, scale(0.5, 0.5)),
    Attack("height 75 %", 98, scale(1.0, 0.75), quick=True),
    Attack("crop 5 % each side", 98, crop(0.05)),
    Attack("crop 10 %", 98, crop(0.1)),
    Attack("crop 25 %", 98, crop(0.25), quick=True),
    Attack("shift", 98, shift),
    Attack("75 %, CRF 28", 98, scale(0.75, 0.75), [x264(28)]),
    Attack("50 %, CRF 28", 98, scale(0.5, 0.5), [x264(28)], quick=True),
    Attack("height 75 %, CRF 28", 98, scale(1.0, 0.75), [x264(28)]),
    Attack("crop 5 %, CRF 28", 98, crop(0.05), [x264(28)]),
    Attack("crop 10 %, CRF 28", 98, crop(0.1), [x264(28)]),
    Attack("crop 25 %, CRF 28", 98, crop(0.25), [x264(28)]),
    Attack("shift, CRF 28", 98, shift, [x264(28)]),
    Attack("turn 1 degree, CRF 23", 95, rotate(1), [x264(23)]),
    Attack("turn 2 degrees, CRF 23", 95, rotate(-2), [x264(23)]),
    Attack("turn 3 degrees, CRF 23", 95, rotate(3), [x264(23)], quick=True),
    Attack("mirror, CRF 23", 95, lambda frames: [frame[:, ::-1] for frame in frames], [x264(23)]),
    Attack("25 to 30 frames a second, CRF 23", 95, faster, [x264(23)]),
    Attack("every second frame, CRF 23", 95, lambda frames: frames[::2], [x264(23)]),
    Attack("brightness +30, CRF 23", 95, each(lambda frame: frame + 30.0), [x264(23)]),
    Attack("contrast 0.7, CRF 23", 95, each(lambda frame: 38 + 0.7 * frame), [x264(23)]),
    Attack("gamma 1.5, CRF 23", 95, each(lambda frame: 255 * (frame / 255) ** 1.5), [x264(23)]),
    Attack(
        "blur of 1.5 pixels, CRF 23", 95, each(lambda frame: cv2.GaussianBlur(frame, (0, 0), 1.5)), [x264(23)]
    ),
    Attack("noise of 8 levels, CRF 23", 95, noise, [x264(23)], quick=True),
    Attack("logo over a tenth, CRF 23", 95, logo, [x264(23)]),
    Attack("AV1 CRF 40", 0, encodes=[AV1]),
    Attack("short side 360, CRF 30", 0, to_short_side(360), [x264(30)]),
    Attack("110 %, CRF 28", 0, scale(1.1, 1.1), [x264(28)]),
    Attack("crop 20 %, CRF 30", 0, crop(0.2), [x264(30)]),
    Attack("turn 5 degrees, CRF 23", 0, rotate(5), [x264(23)]),
    Attack("quarter turn, CRF 23", 0, lambda frames: [np.rot90(frame) for frame in frames], [x264(23)]),
    Attack("perspective of 4 %, CRF 23", 0, perspective, [x264(23)]),
    Attack("black bars, CRF 23", 0, letterbox, [x264(23)]),
    Attack("half size in a corner, CRF 23", 0, inset, [x264(23)]),
    Attack("a quarter faster, CRF 23", 0, quicker, [x264(23)]),
    Attack(
        "gray, CRF 23", 0, each(lambda frame: frame @ np.full((3, 3), [[0.3], [0.59], [0.11]])), [x264(23)]
    ),
    Attack(
        "sharpened, CRF 23",
        0,
        each(lambda frame: 2.0 * frame - cv2.GaussianBlur(frame, (0, 0), 2)),
        [x264(23)],
    ),
    Attack("denoised, CRF 23", 0, each(lambda frame: cv2.bilateralFilter(frame, 7, 25, 3)), [x264(23)]),
)
