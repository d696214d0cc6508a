"""Step 3: cut every face track into clips of one person in one shot at 25 frames a second.

A clip is one fixed square window of the source, wide enough for D-Net's view and for the face boxes with a
margin (docs/data.md, "Prepared clips"). Speech, 3DMM rows and restored frames are added by later steps.

    python -m scripts.preprocess.clips --work data/work --root data/prepared
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64, Image8
from videoretalking.core.constants import DNET_SIZE, ENET_SIZE, TRAIN_FPS
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.datasets.clips import META, ClipMeta, ClipWriter
from videoretalking.faces.align import anchor_crop, box_crop, extract
from videoretalking.faces.types import FaceTrack
from videoretalking.media.reader import Frame, VideoReader
from videoretalking.scripts.preprocess.crew import Crew, read_crew
from videoretalking.scripts.preprocess.runner import (
    Outcome,
    Rejected,
    check_range,
    plain,
    run_step,
    step_parser,
)
from videoretalking.scripts.preprocess.sources import Source, read_sources
from videoretalking.scripts.preprocess.tracks import track_path

_BOX_MARGIN = 0.25  # of a face box on every side, for crop jitter in training
_SAME_TIME = 1e-3  # seconds


@dataclass(frozen=True)
class ClipConfig:
    """What makes a clip.

    Attributes:
        min_seconds: shorter stretches are dropped.
        max_seconds: longer stretches are cut into equal parts.
        min_face: least side of the mean face box in source pixels.
        max_face: faces are stored no larger than this; L-Net and the expert need 96 pixels, D-Net about 190.
        min_confidence: least mean confidence of the landmarks.
        max_repeats: largest share of frames that repeat the one before, as slow sources do at 25 a second.
    """

    min_seconds: float = 1.0
    max_seconds: float = 20.0
    min_face: float = 64.0
    max_face: float = ENET_SIZE
    min_confidence: float = 0.5
    max_repeats: float = 0.2

    def __post_init__(self) -> None:
        """Refuse numbers of which no clip can be made.

        Raises:
            UserError: names the option.
        """
        check_range("--min-seconds", self.min_seconds, 0.0)
        check_range("--max-seconds", self.max_seconds, max(self.min_seconds, 1.0 / TRAIN_FPS))
        check_range("--max-face", self.max_face, 16.0)
        check_range("--max-repeats", self.max_repeats, 0.0, 1.0)


@dataclass(frozen=True)
class ClipPlan:
    """One clip to be cut.

    Attributes:
        name: folder of the clip below the data set's root.
        start: second of the source at which it starts.
        frames: number of the source frame behind each frame of the clip, counted from the source's first second on.
    """

    name: str
    start: float
    frames: list[int]


def plan_path(work: Path, source: Source) -> Path:
    """Where the plans of a source are kept; the file is written when all its clips are."""
    return work / "clips" / f"{source.name}.json"


def read_plans(work: Path, source: Source) -> list[ClipPlan]:
    """The clips that were cut from a source."""
    path = plan_path(work, source)
    if not path.is_file():
        return []
    return [ClipPlan(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


@dataclass(frozen=True)
class ClippedSource:
    """A source and the clips that were cut from it."""

    source: Source
    plans: list[ClipPlan]

    @property
    def name(self) -> str:
        """Name of the source."""
        return self.source.name


def clipped_sources(work: Path) -> list[ClippedSource]:
    """All sources that gave clips."""
    pairs = ((source, read_plans(work, source)) for source in read_sources(work))
    return [ClippedSource(source, plans) for source, plans in pairs if plans]


def all_plans(work: Path) -> list[ClipPlan]:
    """All clips."""
    return [plan for clipped in clipped_sources(work) for plan in clipped.plans]


def make_plans(track: FaceTrack, source: Source, config: ClipConfig) -> list[ClipPlan]:
    """Cut a track into clips.

    Args:
        track: the face at the source's own frame times.
        source: names the clips.
        config: rules.

    Raises:
        Rejected: no stretch of the track makes a clip; the reason is that of the longest one.
    """
    if source.is_still:
        return [ClipPlan(f"{source.name}/000", 0.0, [0])]
    plans: list[ClipPlan] = []
    reasons: list[tuple[int, str]] = [(0, "no face")]
    for span in track.present_slices():
        times = track.times[span]
        for first, last in _parts(times, config.max_seconds):
            part = slice(span.start + first, span.start + last)
            frames = part.start + _nearest(track.times[part], TRAIN_FPS)
            reason = _objection(track, frames, config)
            if reason:
                reasons.append((len(frames), reason))
            else:
                name = f"{source.name}/{len(plans):03d}"
                plans.append(ClipPlan(name, float(track.times[part.start]), frames.tolist()))
    if not plans:
        raise Rejected(max(reasons)[1])
    return plans


def _parts(times: Floats64, max_seconds: float) -> list[tuple[int, int]]:
    """Ranges of frames of equal duration, none longer than ``max_seconds``."""
    count = max(1, int(np.ceil((times[-1] - times[0]) / max_seconds)))
    edges = np.searchsorted(times, np.linspace(times[0], times[-1], count + 1)[1:-1]).tolist()
    return list(zip([0, *edges], [*edges, len(times)], strict=True))


def _nearest(times: Floats64, fps: float) -> npt.NDArray[np.int64]:
    """Index of the frame nearest to each tick of a clock of ``fps`` that starts with the first frame."""
    count = int((times[-1] - times[0]) * fps + 1e-6) + 1
    ticks = times[0] + np.arange(count) / fps
    return np.abs(times[:, None] - ticks).argmin(axis=0)


def _objection(track: FaceTrack, frames: npt.NDArray[np.int64], config: ClipConfig) -> str:
    """Why these frames make no clip, or nothing."""
    if len(frames) < config.min_seconds * TRAIN_FPS:
        return f"shorter than {config.min_seconds:g} s"
    boxes = track.boxes[frames].astype(np.float64)
    side = float(np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)).mean())
    if side < config.min_face:
        return f"face smaller than {config.min_face:g} pixels"
    if float(track.scores[frames].mean()) < config.min_confidence:
        return f"confidence below {config.min_confidence:g}"
    if float((np.diff(frames) == 0).mean()) > config.max_repeats:
        return f"more than {config.max_repeats:.0%} repeated frames"
    return ""


def dnet_window(landmarks: Floats64) -> Floats64:
    """D-Net's view of a clip: an upright square of the size and at the place of the typical anchored crop.

    At run time D-Net sees every face in its own anchored crop, so training shows it at the same size; what the
    fixed view leaves in is the movement of the head.

    Args:
        landmarks: [N, 68, 2] source pixels.

    Returns:
        [4] x1, y1, x2, y2 in source pixels.
    """
    crops = [anchor_crop(points, DNET_SIZE) for points in landmarks]
    center = np.median([crop.to_image([(DNET_SIZE - 1) / 2] * 2) for crop in crops], axis=0)
    half = np.median([DNET_SIZE / crop.scale for crop in crops]) / 2
    edge = center + 0.5  # pixel center -> box coordinates
    return np.concatenate([edge - half, edge + half])


def stored_window(boxes: Floats64, dnet: Floats64, max_face: float) -> tuple[npt.NDArray[np.int64], int]:
    """The square of the source that a clip stores, and the side at which it is stored.

    Args:
        boxes: [N, 4] face boxes in source pixels.
        dnet: [4] D-Net's view.
        max_face: largest side of a face box as stored.

    Returns:
        [4] whole source pixels, and the side in pixels: that of the source, or less where the largest face
        box would exceed ``max_face``.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    low = np.minimum((boxes[:, :2] - _BOX_MARGIN * sides).min(axis=0), dnet[:2])
    high = np.maximum((boxes[:, 2:] + _BOX_MARGIN * sides).max(axis=0), dnet[2:])
    side = int(np.ceil((high - low).max()))
    corner = np.floor((low + high - side) / 2).astype(np.int64)
    scale = min(1.0, max_face / float(sides.max()))
    return np.concatenate([corner, corner + side]), max(1, round(side * scale))


def frames_at(frames: Iterable[Frame], wanted: Iterable[int], times: Floats64) -> Iterator[Image8]:
    """Frames by number.

    Args:
        frames: of a video in order, as they were tracked; consumed as far as needed.
        wanted: numbers that never decrease.
        times: second of each frame when it was tracked.

    Raises:
        UserError: the video ends early, or its frames are not the tracked ones.
    """
    source = iter(frames)
    position, image = -1, np.zeros((0, 0, 3), np.uint8)
    for number in wanted:
        while position < number:
            try:
                frame = next(source)
            except StopIteration:
                raise UserError(
                    f"the video ends after {position + 1} frames, {number + 1} are needed"
                ) from None
            position, image = position + 1, frame.image
            if abs(frame.time - times[position]) > _SAME_TIME:
                raise UserError(
                    f"frame {position} is shown at {frame.time:.3f} s, its track says {times[position]:.3f} s: "
                    "delete the track, it is of another video or version"
                )
        yield image


def remove_clips(root: Path, source: Source) -> None:
    """Remove the clips of a source without a plan: cut before it changed, or by a run that was killed."""
    for folder in (root / source.name).glob("[0-9][0-9][0-9]*"):
        if (folder / META).is_file() or (folder / "frames.bin").is_file():
            (folder / META).unlink(missing_ok=True)  # first, so that no reader takes the rest for a clip
            for path in folder.iterdir():
                if path.is_file():
                    path.unlink()


def cut_source(work: Path, root: Path, config: ClipConfig, source: Source) -> None:
    """Cut all clips of one source and write its plan."""
    track = FaceTrack.load(track_path(work, source))
    plans = make_plans(track, source, config)
    with VideoReader(source.path) as video:
        frames = video.frames_between(source.start, source.end)
        stream = frames_at(frames, (number for plan in plans for number in plan.frames), track.times)
        for plan in plans:
            _write_clip(root / plan.name, track, source, plan, stream, config.max_face)
    with atomic_path(plan_path(work, source)) as temporary:
        temporary.write_text(json.dumps([asdict(plan) for plan in plans]), encoding="utf-8")


def _write_clip(
    folder: Path, track: FaceTrack, source: Source, plan: ClipPlan, stream: Iterator[Image8], max_face: float
) -> None:
    landmarks = track.landmarks[plan.frames].astype(np.float64)
    boxes = track.boxes[plan.frames].astype(np.float64)
    view = dnet_window(landmarks)
    window, side = stored_window(boxes, view, max_face)
    crop = box_crop(window, (side, side))
    writer = ClipWriter(folder)
    count = writer.write_frames(extract(next(stream), crop) for _ in plan.frames)
    writer.write_per_frame("landmarks", crop.to_crop(landmarks).astype(np.float32))
    writer.write_per_frame("boxes", _stored_box(boxes, window, side).astype(np.float32))
    x1, y1, x2, y2 = _stored_box(view, window, side).tolist()
    stop = plan.start + count / TRAIN_FPS
    writer.finish(
        ClipMeta(
            identity=source.identity,
            num_frames=count,
            height=side,
            width=side,
            dnet_window=(x1, y1, x2, y2),
            source=f"{source.path.name} {plan.start:.3f}-{stop:.3f} s",
            license=source.license,
            release_training=source.release_training,
            source_window=(float(window[0]), float(window[1]), float(window[2]), float(window[3])),
        )
    )


def _stored_box(boxes: Floats64, window: npt.NDArray[np.int64], side: int) -> Floats64:
    """Boxes [..., 4] of the source in pixels of the stored frame; edges stay on edges."""
    scale = side / float(window[2] - window[0])
    return np.asarray((boxes - np.tile(window[:2], 2)) * scale)


def run(work: Path, root: Path, config: ClipConfig, crew: Crew) -> Outcome:
    """Cut all tracked sources of a work folder into clips below ``root``."""
    sources = read_sources(work)
    for source in sources:
        if not plan_path(work, source).is_file():
            remove_clips(root, source)
    return run_step(
        "clips",
        [source for source in sources if track_path(work, source).is_file()],
        partial(plain, partial(cut_source, work, root, config)),
        lambda source: plan_path(work, source).is_file(),
        work,
        crew,
    )


def main() -> None:
    """Command line of step 3."""
    parser = step_parser("Step 3: cut face tracks into clips")
    defaults = ClipConfig()
    parser.add_argument("--min-seconds", type=float, default=defaults.min_seconds)
    parser.add_argument("--max-seconds", type=float, default=defaults.max_seconds)
    parser.add_argument("--min-face", type=float, default=defaults.min_face, help="pixels")
    parser.add_argument("--max-face", type=float, default=defaults.max_face, help="pixels as stored")
    parser.add_argument("--min-confidence", type=float, default=defaults.min_confidence)
    parser.add_argument("--max-repeats", type=float, default=defaults.max_repeats)
    arguments = parser.parse_args()
    config = ClipConfig(
        min_seconds=arguments.min_seconds,
        max_seconds=arguments.max_seconds,
        min_face=arguments.min_face,
        max_face=arguments.max_face,
        min_confidence=arguments.min_confidence,
        max_repeats=arguments.max_repeats,
    )
    run(arguments.work, arguments.root, config, read_crew(arguments))


if __name__ == "__main__":
    run_command(main)
