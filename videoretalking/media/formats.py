"""Containers and codecs of the result, in plain tables, so that mistakes are found before any library is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from videoretalking.core.errors import UserError

# Suffix -> FFmpeg's name of the container.
CONTAINERS: Mapping[str, str] = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
# Codec -> containers that take it.
CODECS: Mapping[str, frozenset[str]] = {
    "h264": frozenset({"mp4", "mov", "matroska"}),
    "hevc": frozenset({"mp4", "mov", "matroska"}),
    "vp9": frozenset({"webm", "matroska", "mp4"}),
    "av1": frozenset({"mp4", "matroska", "webm"}),
    "ffv1": frozenset({"matroska"}),
}
# Encoder presets in the words of x264.
SPEEDS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
# Largest constant rate factor, which is the worst quality; FFV1 loses nothing and has none.
WORST_QUALITY: Mapping[str, int] = {"h264": 51, "hevc": 51, "vp9": 63, "av1": 63}


def check_format(path: str | Path, codec: str, quality: int | None = None) -> None:
    """Make sure that a container of this suffix exists and takes this codec, and the codec this quality.

    Raises:
        UserError: it does not; the message names what goes.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise UserError(f"{path}: unknown container {suffix!r}, choose {', '.join(CONTAINERS)}")
    if codec not in CODECS:
        raise UserError(f"unknown video codec {codec!r}, choose {', '.join(CODECS)}")
    if CONTAINERS[suffix] not in CODECS[codec]:
        suffixes = [name for name, container in CONTAINERS.items() if container in CODECS[codec]]
        raise UserError(f"{path}: {codec} video goes into {', '.join(suffixes)}, not into {suffix}")
    if quality is not None and codec in WORST_QUALITY and not 0 <= quality <= WORST_QUALITY[codec]:
        raise UserError(f"quality {quality} does not exist, {codec} takes 0 (best) to {WORST_QUALITY[codec]}")
