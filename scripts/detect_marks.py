"""Is a file marked? ``python -m scripts.detect_marks FILE...`` looks for the marks that this project writes.

Prints JSON: for each file whether a mark is found, what it says, and the chance that a file which knows nothing of
the key looks as much like it. The exit status is 0 where every file bears a mark, 1 where one does not, 2 where a
file cannot be read. No mark is no proof of a recording: marks can be removed, and other programs write none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import USER_ERROR, UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.provenance import statistics
from videoretalking.provenance.audio_search import detect_audio
from videoretalking.provenance.keys import Key, load_key, new_key_text
from videoretalking.provenance.video_detector import detect_video

NOT_FOUND = 1


def detect_file(path: Path, key: Key) -> dict[str, Any]:
    """What the detectors say about one file.

    Returns:
        ``file``, ``found``, ``video`` and ``audio`` with what each says, or ``error`` where neither can read it.
    """
    kinds: dict[str, Callable[[Path, Key], dict[str, Any]]] = {"video": _video, "audio": _audio}
    result: dict[str, Any] = {"file": str(path), "found": False}
    problems = []
    for kind, detect in kinds.items():
        try:
            result[kind] = detect(path, key)
        except UserError as error:
            problems.append(str(error))
            continue
        result["found"] |= result[kind]["found"]
    if len(problems) == len(kinds):
        result["error"] = problems[0]
    return result


def _video(path: Path, key: Key) -> dict[str, Any]:
    return detect_video(path, key).as_dict()


def _audio(path: Path, key: Key) -> dict[str, Any]:
    seen = detect_audio(path, key)
    result: dict[str, Any] = {
        "found": seen.found,
        "p_value": seen.p_value,
        "log10_p": round(statistics.log10(seen.log_p), 2),
    }
    if seen.payload is not None:
        result |= {"payload": seen.payload.text, "job": f"{seen.payload.job:012x}"}
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = CommandParser(description="Look for the marks of this project in videos, pictures and sounds.")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--key", type=Path, help="key file; the public key without it")
    parser.add_argument("--new-key", type=Path, metavar="KEY", help="write a fresh key file and stop")
    options = parser.parse_args(arguments)
    if options.new_key is not None:
        if options.new_key.exists():
            raise UserError(f"{options.new_key} exists: marks made with a key are lost with it")
        with atomic_path(options.new_key) as path:
            path.chmod(0o600)
            path.write_text(new_key_text(options.new_key.stem), encoding="utf-8")
        return 0
    if not options.files:
        parser.error("give a file to look into")
    key = load_key(options.key)
    results = [detect_file(path, key) for path in options.files]
    print(json.dumps({"key": key.name, "files": results}, indent=2, ensure_ascii=False))
    if any("error" in result for result in results):
        return USER_ERROR
    return 0 if all(result["found"] for result in results) else NOT_FOUND


if __name__ == "__main__":
    run_command(main)
