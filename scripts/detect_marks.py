"""Is a file marked? ``python -m scripts.detect_marks FILE...`` looks for the marks that this project writes.

Prints JSON: for each file whether a mark is found, what it says, and the chance that a file which knows nothing of
the key looks as much like it; and what its C2PA manifest is worth, if it has one. ``--sheet SHEET.png`` draws where
the marks were found. The exit status is 0 where every file bears a mark, 1 where one does not, 2 where a file can
not be read. No mark is no proof of a recording: marks can be removed, and other programs write none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from videoretalking.core.arrays import Image8
from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import USER_ERROR, UserError, run_command
from videoretalking.core.files import atomic_path, check_output
from videoretalking.media.audio import audio_info, read_resampled
from videoretalking.media.images import save_image
from videoretalking.provenance import statistics
from videoretalking.provenance.audio_cells import RATE
from videoretalking.provenance.audio_search import AudioDetection, AudioSearch
from videoretalking.provenance.keys import Key, load_key, new_key_text
from videoretalking.provenance.manifest import FORMATS, verify_file
from videoretalking.provenance.sheet import draw_sheet
from videoretalking.provenance.video_detector import VideoDetection, detect_video
from videoretalking.provenance.video_windows import Box, detect_in_windows

NOT_FOUND = 1
_SHEET_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass
class Findings:
    """What the detectors say about one file.

    Attributes:
        path: the file.
        video: of its picture; None where there is none.
        box: the part of the frame that the mark was found in; None for all of it.
        audio: of its sound; None where there is none.
        manifest: what :func:`read_manifest` says.
        problems: why a detector could not look.
    """

    path: Path
    video: VideoDetection | None = None
    box: Box | None = None
    audio: AudioDetection | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def unreadable(self) -> bool:
        """Whether neither picture nor sound could be looked at."""
        return self.video is None and self.audio is None

    @property
    def found(self) -> bool:
        """Whether picture or sound bears a mark."""
        return any(seen is not None and seen.found for seen in (self.video, self.audio))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        result: dict[str, Any] = {"file": str(self.path), "found": self.found}
        if self.video is not None:
            result["video"] = self.video.as_dict()
        if self.box is not None:
            result["video"]["box"] = {side: round(share, 4) for side, share in asdict(self.box).items()}
        if self.audio is not None:
            result["audio"] = _audio_dict(self.audio)
        if self.unreadable:
            return {**result, "error": self.problems[0]}
        return {**result, "manifest": self.manifest}


def detect_file(path: Path, key: Key) -> Findings:
    """Look into one file."""
    findings = Findings(path)
    try:
        findings.video = detect_video(path, key)
        if not findings.video.found and (second := detect_in_windows(path, key)) is not None:
            findings.video, findings.box = second
    except UserError as error:
        findings.problems.append(str(error))
    try:
        findings.audio = _detect_audio(path, key)
    except UserError as error:
        findings.problems.append(str(error))
    if not findings.unreadable:
        findings.manifest = read_manifest(path)
    return findings


def read_manifest(path: Path) -> dict[str, Any]:
    """What a file's C2PA manifest is worth, for JSON; ``not_checked`` says why nobody looked."""
    if path.suffix.lower() not in FORMATS:
        return {"present": False}
    try:
        report = verify_file(path)
    except UserError as error:
        return {"not_checked": str(error)}
    return asdict(report) if report.present else {"present": False}


def _detect_audio(path: Path, key: Key) -> AudioDetection:
    """Look into the sound, with progress in seconds of it."""
    search, seconds = AudioSearch(key), audio_info(path).duration
    with tqdm(desc="listening", total=round(seconds) or None, unit="s", delay=2.0, leave=False) as progress:
        heard = 0
        for block in read_resampled(path, RATE):
            search.add(block)
            heard += block.shape[1]
            progress.update(heard // RATE - progress.n)
        return search.finish()


def _audio_dict(seen: AudioDetection) -> dict[str, Any]:
    result: dict[str, Any] = {
        "found": seen.found,
        "p_value": seen.p_value,
        "log10_p": round(statistics.log10(seen.log_p), 2),
    }
    if seen.payload is not None:
        result |= {"payload": seen.payload.text, "job": f"{seen.payload.job:012x}"}
    result["pieces"] = [
        {
            "start": round(start, 2),
            "end": round(start + duration, 2),
            "log10_p": round(statistics.log10(log_p), 2),
        }
        for start, duration, log_p in seen.pieces
    ]
    return result


def _check_sheet(sheet: Path, files: Sequence[Path]) -> None:
    if sheet.suffix.lower() not in _SHEET_SUFFIXES:
        raise UserError(f"--sheet {sheet}: give a name that ends in {', '.join(_SHEET_SUFFIXES)}")
    check_output(sheet, "--sheet", {f"file {number}": path for number, path in enumerate(files, start=1)})


def _write_new_key(path: Path) -> None:
    if path.exists():
        raise UserError(f"{path} exists: marks made with a key are lost with it")
    with atomic_path(path) as temporary:
        temporary.chmod(0o600)
        temporary.write_text(new_key_text(path.stem), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = CommandParser(description="Look for the marks of this project in videos, pictures and sounds.")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--key", type=Path, help="key file; the public key without it")
    parser.add_argument("--new-key", type=Path, metavar="KEY", help="write a fresh key file and stop")
    parser.add_argument(
        "--sheet", type=Path, metavar="SHEET", help="draw where the marks were found (.png or .jpg)"
    )
    options = parser.parse_args(arguments)
    if options.new_key is not None:
        _write_new_key(options.new_key)
        return 0
    if not options.files:
        parser.error("give a file to look into")
    if options.sheet is not None:
        _check_sheet(options.sheet, options.files)
    key = load_key(options.key)
    results, drawn = [], list[Image8]()
    for path in options.files:
        findings = detect_file(path, key)
        results.append(findings.as_dict())
        if options.sheet is not None and not findings.unreadable:
            drawn.append(draw_sheet(path, key, findings.video, findings.audio, findings.box))
    print(json.dumps({"key": key.name, "files": results}, indent=2, ensure_ascii=False))
    if drawn:
        with atomic_path(options.sheet) as temporary:
            save_image(temporary, np.concatenate(drawn))
    if any("error" in result for result in results):
        return USER_ERROR
    return 0 if all(result["found"] for result in results) else NOT_FOUND


if __name__ == "__main__":
    run_command(main)
