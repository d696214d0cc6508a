"""What happened to every frame, as JSON for machines and as one line for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from videoretalking.core.files import atomic_path, check_output


@dataclass(frozen=True)
class FaceReport:
    """One face in one frame.

    Attributes:
        face: number of the face.
        score: confidence of the landmarks; 0 where they were interpolated over a short gap.
        pose: pitch, yaw, roll in degrees.
        sync: cosine of the lip-sync expert over this frame and the four before; None where not computed.
        fallback: what was used instead of the usual, such as ``interpolated landmarks``; empty if nothing.
    """

    face: int
    score: float
    pose: tuple[float, float, float]
    sync: float | None
    fallback: str = ""


@dataclass(frozen=True)
class FrameReport:
    """One frame of the output.

    Attributes:
        index: number in the output.
        source: number in the input.
        time: seconds in the output.
        speech: 0 silence .. 1 speech, as the silence gate sees it.
        faces: the edited faces; none means that the frame passed through, but for a mark.
    """

    index: int
    source: int
    time: float
    speech: float
    faces: tuple[FaceReport, ...] = ()


@dataclass
class Report:
    """The whole run.

    Attributes:
        face: the input video.
        audio: the driving audio.
        outfile: the result.
        weights: network -> file.
        family: of the weights.
        backend: face detector.
        settings: the resolved config.
        frames: every frame.
        seconds: wall time of each pass.
        stages: busy seconds of each stage of pass 2, ``composite`` with the mark of the picture; stages overlap.
        notes: anything else worth knowing.
        mark: what the marks of picture and sound say, see :meth:`pipeline.marks.Marks.describe`.
    """

    face: str
    audio: str
    outfile: str
    weights: dict[str, str]
    family: str
    backend: str
    settings: dict[str, Any]
    frames: list[FrameReport] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    mark: dict[str, Any] = field(default_factory=lambda: {"mode": "off"})

    @property
    def untouched(self) -> list[int]:
        """Numbers of the output frames that passed through."""
        return [frame.index for frame in self.frames if not frame.faces]

    def summary(self) -> dict[str, Any]:
        """Counts and means."""
        sync = [face.sync for frame in self.frames for face in frame.faces if face.sync is not None]
        return {
            "frames": len(self.frames),
            "frames_untouched": len(self.untouched),
            "untouched": ranges(self.untouched),
            "faces_edited": sum(len(frame.faces) for frame in self.frames),
            "sync_mean": float(np.mean(sync)) if sync else None,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = asdict(self)
        frames = plain.pop("frames")
        return {**plain, "summary": self.summary(), "frames": frames}

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically.

        Raises:
            UserError: the place cannot be written to, or is one of the files that the report is about.
        """
        check_output(
            path, "the report", {"the video": self.face, "the sound": self.audio, "the result": self.outfile}
        )
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")


def ranges(numbers: Sequence[int]) -> str:
    """``[1, 2, 3, 7]`` -> ``"1-3, 7"``."""
    if not len(numbers):
        return ""
    values = np.asarray(numbers)
    groups = np.split(values, np.flatnonzero(np.diff(values) != 1) + 1)
    return ", ".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)
