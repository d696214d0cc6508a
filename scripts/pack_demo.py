"""Prepared data sets as one small folder, for training on a machine without the rest: ``scripts.pack_demo``.

    python -m scripts.pack_demo pack --data data/demo/small data/demo/large --output PACK
    python -m scripts.pack_demo unpack PACK --output data/demo

Unpacking takes NumPy and OpenCV and what training takes, no PyAV and no librosa. A pack holds ``pack.json`` (the
clips), ``arrays.npz`` (numbers) and H.264 videos: one of each clip, and one of all stills, padded to one size. A
clip that several sets hold in different sizes is packed once, in the largest; the others are made smaller from it.
Pictures lose as much as the limit asks for (CRF 17 at best); landmarks and boxes keep 1/32 pixel, 3DMM rows
1/65,535 of their range in the clip, spectrograms 1/255 of theirs. Waves and restored targets are left out, which
the configs of the bundled weights do not read, and the frames through D-Net, which are rendered where they train.
"""

from __future__ import annotations

import json
import logging
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.commands import CommandParser, positive
from videoretalking.core.config import to_dict
from videoretalking.core.constants import MEL_WINDOW, TRAIN_FPS
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.datasets.clips import ClipMeta, ClipWriter, PreparedClip
from videoretalking.datasets.collection import mel_start
from videoretalking.datasets.manifest import MANIFEST, ManifestEntry, read_manifest, write_manifest
from videoretalking.media.mel import MAX_VALUE

logger = logging.getLogger(__name__)

PACK, ARRAYS, STILLS = "pack.json", "arrays.npz", "stills.mp4"
VERSION = 1
_MEBIBYTE = 2**20
_BEST_CRF, _WORST_CRF = 17, 36
_HALVING = 6.0  # CRF steps that halve an H.264 file, as a rule
_SAMPLE = 8  # every so many clips are encoded to find the CRF
_UNITS = 32  # of landmarks and boxes in a pixel
_LIMIT = 32767  # of int16
_MEL_UNITS = 255.0 / (2.0 * MAX_VALUE)
# Two sets that show the same frames in two sizes agree in their rows up to this share and this number.
_SAME_ROWS = 1e-2


@dataclass(frozen=True)
class _Video:
    """A video of a pack: one clip, or all stills.

    Attributes:
        file: name in the pack.
        sources: folder of each clip of one frame, or the one clip of more.
        frames: number of frames.
        width: of the frames, even.
        height: likewise.
    """

    file: str
    sources: tuple[Path, ...]
    frames: int
    width: int
    height: int


@dataclass
class _Clip:
    """A clip of one of the sets.

    Attributes:
        root: its set.
        entry: its line of the manifest; ``num_frames`` as packed.
        clip: access to it.
        owner: the clip of another set that shows the same in a larger size, or itself.
    """

    root: Path
    entry: ManifestEntry
    clip: PreparedClip
    owner: _Clip | None = None

    @property
    def scale(self) -> float:
        """Its pixels per pixel of the owner."""
        owner = self.owner or self
        return self.clip.meta.width / owner.clip.meta.width


class _Columns:
    """Arrays that grow row by row and know where each clip's rows begin."""

    def __init__(self) -> None:
        self.parts: list[npt.NDArray[Any]] = []
        self.length = 0

    def append(self, values: npt.NDArray[Any]) -> int:
        """Add rows; returns the number of the first."""
        first = self.length
        self.parts.append(values)
        self.length += len(values)
        return first

    def joined(self) -> npt.NDArray[Any]:
        """All rows."""
        return np.concatenate(self.parts)


def pack(roots: Sequence[Path], output: Path, max_mib: float, validation_frames: int) -> float:
    """Pack prepared data sets.

    Args:
        roots: folders with ``manifest.csv``; their last parts name them in the pack.
        output: new folder.
        max_mib: most that it may hold, in MiB; pictures give way.
        validation_frames: so many first frames of each clip that does not train are packed.

    Returns:
        Its size in MiB.

    Raises:
        UserError: equal names, no data, an output that exists, or too much for the limit at the worst quality.
    """
    if len({root.name for root in roots}) < len(roots):
        raise UserError("the last parts of the folders in --data must differ, they name the sets in the pack")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already: remove it, or give --output a new name")
    clips = [clip for root in roots for clip in _read_clips(root, validation_frames)]
    _find_owners(clips)
    videos, places = _plan_videos([clip for clip in clips if clip.owner is None])
    records, arrays = _collect_arrays(clips, places)
    with atomic_path(output / ARRAYS) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    facts = {"version": VERSION, "sets": [root.name for root in roots], "clips": records}
    facts["videos"] = [[video.file, video.frames] for video in videos]
    with atomic_path(output / PACK) as temporary:
        temporary.write_text(json.dumps(facts, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")
    used = sum((output / name).stat().st_size for name in (ARRAYS, PACK))
    crf = _encode_all(videos, output, max_mib * _MEBIBYTE - used)
    for video in videos:
        count = sum(1 for _ in _decode(output / video.file))
        if count != video.frames:
            raise UserError(f"{output / video.file} has {count} frames for OpenCV, not {video.frames}")
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file()) / _MEBIBYTE
    frames = sum(video.frames for video in videos)
    logger.info("%s: %d clips, %d frames at CRF %d, %.1f MiB", output, len(clips), frames, crf, size)
    return size


def _read_clips(root: Path, validation_frames: int) -> Iterator[_Clip]:
    for entry in read_manifest(root):
        count = entry.num_frames if entry.split == "train" else min(entry.num_frames, validation_frames)
        yield _Clip(root, replace(entry, num_frames=count), PreparedClip(root / entry.clip))


def _find_owners(clips: Sequence[_Clip]) -> None:
    """Name the largest of those clips that show the same window of the same frames."""
    largest: dict[Any, _Clip] = {}
    for clip in sorted(clips, key=lambda clip: -clip.clip.meta.width):
        meta = clip.clip.meta
        window = None if meta.source_window is None else tuple(meta.source_window)
        key = (clip.entry.clip, clip.entry.num_frames, meta.num_frames, meta.source, window)
        owner = largest.setdefault(key, clip)
        if owner is not clip and window is not None and owner.root != clip.root:
            clip.owner = owner


def _plan_videos(owners: Sequence[_Clip]) -> tuple[list[_Video], dict[Path, tuple[str, int]]]:
    """The videos of some clips, and for each clip's folder the name of its video and its first frame there."""
    videos: list[_Video] = []
    places: dict[Path, tuple[str, int]] = {}
    stills = [clip for clip in owners if clip.entry.num_frames == 1]
    if stills:
        width, height = (
            max(size) for size in zip(*((c.clip.meta.width, c.clip.meta.height) for c in stills), strict=True)
        )
        folders = tuple(clip.clip.folder for clip in stills)
        videos.append(_Video(STILLS, folders, len(stills), width + width % 2, height + height % 2))
        places |= {folder: (STILLS, number) for number, folder in enumerate(folders)}
    for clip in owners:
        if clip.entry.num_frames > 1:
            meta, name = clip.clip.meta, f"{len(videos):04d}.mp4"
            size = (meta.width + meta.width % 2, meta.height + meta.height % 2)
            videos.append(_Video(name, (clip.clip.folder,), clip.entry.num_frames, *size))
            places[clip.clip.folder] = (name, 0)
    return videos, places


def _encode_all(videos: Sequence[_Video], output: Path, room: float) -> int:
    """Write all videos with the best quality that fits into ``room`` bytes; returns its CRF."""
    crf = _BEST_CRF
    stills = [video for video in videos if video.file == STILLS]
    moving = [video for video in videos if video.file != STILLS]
    if len(moving) > _SAMPLE:
        guess, sample = crf + 6, moving[::_SAMPLE]
        expected = _encode(stills, output, guess) + _encode(sample, output, guess) * (
            sum(map(_pixels, moving)) / sum(map(_pixels, sample))
        )
        crf = _next_crf(expected, room, guess)
    while True:
        size = _encode(videos, output, crf)
        if size <= room:
            return crf
        if crf == _WORST_CRF:
            raise UserError(
                f"the data do not fit: {size / _MEBIBYTE:.1f} MiB of pictures at the worst quality, "
                f"{max(0.0, room) / _MEBIBYTE:.1f} MiB of room; raise --max-mib, or pack fewer sets or clips"
            )
        crf = max(crf + 1, _next_crf(size, room, crf))


def _next_crf(size: float, room: float, crf: int) -> int:
    """The CRF at which a file that has ``size`` bytes at ``crf`` should fit."""
    wanted = crf + _HALVING * math.log2(size / max(room, 1.0))
    return min(_WORST_CRF, max(_BEST_CRF, math.ceil(wanted)))


def _pixels(video: _Video) -> int:
    return video.frames * video.width * video.height


def _encode(videos: Sequence[_Video], output: Path, crf: int) -> int:
    """Write videos; returns their bytes.

    Without B-frames a stream needs no edit list, so that every decoder gives each frame once and in order.
    """
    import av  # not on the machine that unpacks

    total = 0
    for video in tqdm(videos, desc=f"CRF {crf}", unit="clip", delay=2.0):
        options = {"crf": str(crf), "preset": "medium", "bf": "0"}
        if video.file == STILLS:
            options |= {"g": "1"}
        path = output / video.file
        with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=round(TRAIN_FPS), options=options)
            stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
            for frame in _padded_frames(video):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        total += path.stat().st_size
    return total


def _padded_frames(video: _Video) -> Iterator[Image8]:
    """The frames of a video, enlarged to its size by repeating their last rows and columns."""
    per_source = video.frames // len(video.sources)
    for folder in video.sources:
        clip = PreparedClip(folder)
        for number in range(per_source):
            frame = clip.frame(number)
            below, right = video.height - frame.shape[0], video.width - frame.shape[1]
            padded = cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE)
            yield np.asarray(padded, np.uint8)


def _collect_arrays(
    clips: Sequence[_Clip], places: dict[Path, tuple[str, int]]
) -> tuple[list[dict[str, Any]], dict[str, npt.NDArray[Any]]]:
    """What ``pack.json`` says of each clip, and the arrays that it points into."""
    columns = {name: _Columns() for name in ("landmarks", "boxes", "rows", "rows_range", "mel")}
    records: dict[Path, dict[str, Any]] = {}
    for clip in sorted(clips, key=lambda clip: clip.owner is not None):  # owners first
        owner = clip.owner or clip
        count = clip.entry.num_frames
        file, first = places[owner.clip.folder]
        record: dict[str, Any] = {
            "set": clip.root.name,
            "entry": asdict(clip.entry),
            "meta": to_dict(clip.clip.meta) | {"num_frames": count},
            "video": [file, first, owner.clip.meta.width, owner.clip.meta.height],
        }
        for name in ("landmarks", "boxes", "rows", "mel"):
            if not clip.clip.has(name):
                continue
            if clip.owner is not None and _is_shared(clip, name, count):
                record[name] = records[owner.clip.folder][name]
            else:
                record[name] = _append(columns, name, _kept(clip.clip, name, count))
        records[clip.clip.folder] = record
    arrays = {name: column.joined() for name, column in columns.items() if column.parts}
    for name in arrays.keys() & {"landmarks", "boxes"}:
        arrays[name] = np.diff(arrays[name], axis=0, prepend=np.zeros_like(arrays[name][:1]))  # wraps around
    return [records[clip.clip.folder] for clip in clips], arrays


def _kept(clip: PreparedClip, name: str, count: int) -> Floats32:
    """The rows of an array that belong to the first frames; a spectrogram has a row for each column."""
    if name == "mel":
        return clip.mel.T[: mel_start(count) + MEL_WINDOW]
    values: Floats32 = getattr(clip, name)[:count]
    return values.reshape(count, -1)


def _is_shared(clip: _Clip, name: str, count: int) -> bool:
    """Whether a clip's array follows from its owner's."""
    owner = clip.owner
    if owner is None or not owner.clip.has(name):
        return False
    mine, theirs = _kept(clip.clip, name, count), _kept(owner.clip, name, count)
    if name == "rows":
        return np.allclose(mine, theirs, rtol=_SAME_ROWS, atol=_SAME_ROWS)
    if name == "mel":
        return np.array_equal(mine, theirs)
    return bool(np.abs(mine - _scaled(theirs, name, clip.scale)).max() <= 1.0 / _UNITS)


def _scaled(values: Floats32, name: str, scale: float) -> Floats32:
    """Places in a frame that was made smaller: centers of pixels (landmarks), or edges (boxes)."""
    center = 0.5 if name == "landmarks" else 0.0
    return ((values + center) * scale - center).astype(np.float32)


def _append(columns: dict[str, _Columns], name: str, values: Floats32) -> list[int]:
    """Store rows; returns the first one's number and how many there are."""
    if name == "mel":
        stored: npt.NDArray[Any] = np.rint((values + MAX_VALUE) * _MEL_UNITS).astype(np.uint8)
    elif name == "rows":
        low, high = values.min(axis=0), values.max(axis=0)
        step = np.maximum(high - low, 1e-12) / 65535.0
        stored = np.rint((values - low) / step).astype(np.uint16)
        columns["rows_range"].append(np.stack([low, step])[None].astype(np.float32))
        return [columns["rows"].append(stored), len(stored), columns["rows_range"].length - 1]
    else:
        units = np.rint(values * _UNITS)
        if np.abs(units).max() > _LIMIT:
            raise UserError(f"{name} beyond {_LIMIT // _UNITS} pixels do not fit into a pack")
        stored = units.astype(np.int16)
    return [columns[name].append(stored), len(stored)]


def unpack(folder: Path, output: Path, threads: int | None = None) -> list[Path]:
    """Write the data sets of a pack in the prepared format.

    Args:
        folder: the pack.
        output: a folder for each set is made in it.
        threads: at once; None for as many as there are processors.

    Returns:
        The folders of the sets.

    Raises:
        UserError: no pack, a damaged one, or a set that exists already.
    """
    facts, arrays = _read_pack(folder)
    roots = {name: output / name for name in facts["sets"]}
    for root in roots.values():
        if (root / MANIFEST).exists():
            raise UserError(f"{root / MANIFEST} exists already: remove {root}, or give --output a new name")
    by_video: dict[str, list[dict[str, Any]]] = {file: [] for file, _ in facts["videos"]}
    for record in facts["clips"]:
        by_video[record["video"][0]].append(record)
    counts = dict(facts["videos"])
    with ThreadPoolExecutor(threads) as pool:
        if STILLS in by_video:
            stills = _decode_all(folder / STILLS, counts[STILLS])
            list(pool.map(partial(_write_clip, roots, arrays, stills), by_video.pop(STILLS)))

        def write_video(file: str) -> None:
            frames = _decode_all(folder / file, counts[file])
            for record in by_video[file]:
                _write_clip(roots, arrays, frames, record)

        jobs = pool.map(write_video, by_video)
        list(tqdm(jobs, desc="unpack", total=len(by_video), unit="clip", delay=2.0))
    for name, root in roots.items():
        entries = [ManifestEntry(**record["entry"]) for record in facts["clips"] if record["set"] == name]
        write_manifest(root, entries)
    logger.info("%s: %d clips in %s", folder, len(facts["clips"]), ", ".join(map(str, roots.values())))
    return list(roots.values())


def _read_pack(folder: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    try:
        facts: dict[str, Any] = json.loads((folder / PACK).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder} is no pack or a damaged one ({error}): make it again") from None
    if facts.get("version") != VERSION:
        raise UserError(f"{folder} was packed in format {facts.get('version')}, this program reads {VERSION}")
    for name in arrays.keys() & {"landmarks", "boxes"}:
        arrays[name] = np.cumsum(arrays[name], axis=0, dtype=np.int16)
    return facts, arrays


def _write_clip(
    roots: dict[str, Path],
    arrays: dict[str, npt.NDArray[Any]],
    frames: Sequence[Image8],
    record: dict[str, Any],
) -> None:
    """Write one clip from the frames of its video."""
    meta = ClipMeta(**record["meta"])
    _, first, width, height = record["video"]
    writer = ClipWriter(roots[record["set"]] / record["entry"]["clip"])
    shown = (frame[:height, :width] for frame in frames[first : first + meta.num_frames])
    writer.write_frames(_resized(shown, meta))
    for name in ("landmarks", "boxes", "rows", "mel"):
        if name not in record:
            continue
        start, count, *extra = record[name]
        stored = arrays[name][start : start + count].astype(np.float32)
        if name == "mel":
            writer.write_audio(None, (stored / np.float32(_MEL_UNITS) - np.float32(MAX_VALUE)).T)
        elif name == "rows":
            low, step = arrays["rows_range"][extra[0]]
            writer.write_per_frame(name, low + stored * step)
        else:
            values = _scaled(stored / np.float32(_UNITS), name, meta.width / width)
            writer.write_per_frame(name, values.reshape(count, -1, 2) if name == "landmarks" else values)
    writer.finish(meta)


def _resized(frames: Iterable[Image8], meta: ClipMeta) -> Iterator[Image8]:
    """Frames in the size of a clip."""
    for frame in frames:
        if frame.shape[:2] == (meta.height, meta.width):
            yield np.ascontiguousarray(frame)
        else:
            small = cv2.resize(frame, (meta.width, meta.height), interpolation=cv2.INTER_AREA)
            yield np.asarray(small, np.uint8)


def _decode_all(path: Path, count: int) -> list[Image8]:
    """The frames of a video.

    Raises:
        UserError: there are not ``count``.
    """
    frames = list(_decode(path))
    if len(frames) != count:
        raise UserError(
            f"{path} has {len(frames)} frames and should have {count}: it is damaged, or OpenCV lacks H.264"
        )
    return frames


def _decode(path: Path) -> Iterator[Image8]:
    """uint8 HWC RGB frames of a video."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        while True:
            done, frame = capture.read()
            if not done:
                return
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()


def main() -> None:
    """Command line."""
    parser = CommandParser(description="Prepared data sets as one small folder, and back")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="prepared data sets -> PACK")
    packing.add_argument("--data", type=Path, nargs="+", required=True, help="folders with manifest.csv")
    packing.add_argument("--output", type=Path, required=True, help="new folder")
    packing.add_argument("--max-mib", type=float, default=40.0, help="most that it may hold")
    packing.add_argument(
        "--validation-frames", type=positive, default=60, help="of each clip that does not train"
    )
    unpacking = commands.add_parser("unpack", help="PACK -> prepared data sets")
    unpacking.add_argument("pack", type=Path, help="folder that pack made")
    unpacking.add_argument("--output", type=Path, required=True, help="folder for the sets")
    arguments = parser.parse_args()
    if arguments.command == "pack":
        pack(arguments.data, arguments.output, arguments.max_mib, arguments.validation_frames)
    else:
        unpack(arguments.pack, arguments.output)


if __name__ == "__main__":
    run_command(main)
