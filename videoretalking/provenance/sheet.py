"""A picture that shows where the marks of a file were found: over the frame, and over time.

Every piece of a video is a thumbnail, over which glows how far each place agrees with the mark that the detector
found; bars below show the sound. What glows is a local correlation, measured against that with the same mark at
wrong places. It is for the eye: whether a file is marked is said by the detector's p-values alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videoretalking.core.arrays import Floats32, Floats64, Image8
from videoretalking.provenance import statistics
from videoretalking.provenance.audio_search import AudioDetection
from videoretalking.provenance.carriers import TILE, carriers_of, draw_tile, period_for
from videoretalking.provenance.keys import Key
from videoretalking.provenance.payload import CODE_BITS, encode
from videoretalking.provenance.pieces import Piece, read_pieces
from videoretalking.provenance.search import Placement
from videoretalking.provenance.video_detector import VideoDetection
from videoretalking.provenance.video_windows import Box

WIDTH = 1200  # pixels of the sheet
_COLUMNS = 6
_GAP, _LINE = 8, 20  # pixels between thumbnails, and of a line of text
_SOUND_HEIGHT = 96
_BACKGROUND, _INK, _FAINT = (24, 24, 28), (235, 235, 235), (90, 90, 96)
_SURE, _UNSURE = (255, 170, 60), (110, 110, 120)

_GRID = 8  # pixels of the nominal tile that are one place
_REACH = 24.0  # pixels of the nominal tile over which agreement is averaged: the sigma of a Gaussian
_WRONG_SHIFTS = 8
_DIM, _BRIGHT = 2.5, 9.0  # standard deviations at which a place begins to glow, and glows most


@dataclass(frozen=True)
class _Undone:
    """A piece whose placement is undone: one pixel is one of the nominal tile.

    Attributes:
        picture: [h, w] whitened.
        to_nominal: [2, 3] pixels of the piece to those of ``picture``.
    """

    picture: Floats32
    to_nominal: Floats64


def draw_sheet(
    path: str | Path,
    key: Key,
    video: VideoDetection | None,
    audio: AudioDetection | None,
    box: Box | None = None,
) -> Image8:
    """Draw what was found in one file.

    Args:
        path: the file.
        key: that the detectors looked with.
        video: what the detector of the picture said; None for a file without one.
        audio: likewise of the sound.
        box: where in the frame the mark was found; None for the whole frame.

    Returns:
        [H, 1200, 3] uint8 RGB.

    Raises:
        UserError: the file cannot be read any more.
    """
    parts = [_title(Path(path).name, video, audio)]
    if video is not None:
        pieces = list(read_pieces(path))
        maps = agreement(pieces, video, key, box) if video.found else [None] * len(pieces)
        parts.append(_thumbnails(pieces, maps, [piece.log10_p for piece in video.pieces]))
    if audio is not None and audio.pieces:
        parts.append(_sound(audio))
    return np.concatenate(parts)


def agreement(
    pieces: Sequence[Piece], found: VideoDetection, key: Key, box: Box | None = None
) -> list[tuple[Floats32, Floats64]]:
    """How far each place of each piece agrees with the mark.

    Args:
        pieces: of one video.
        found: what the detector said about it.
        key: that it looked with.
        box: where in the frame it found the mark; None for the whole frame.

    Returns:
        for each piece [h, w] standard deviations above what wrong places give, 8 pixels of the nominal tile apart,
        and [2, 3] pixels of the piece to places of that map.
    """
    code = np.zeros(CODE_BITS) if found.payload is None else encode(found.payload)
    tile = draw_tile(carriers_of(key), code, TILE)
    undone = [_undo(piece.white, found) for piece in pieces]
    tiles = [_lay_together(piece.picture) for piece in undone]
    if box is not None:  # elsewhere is nothing that tells where the tiles begin
        inside = [_undo(_keep(piece.white, box), found) for piece in pieces]
        tiles = [_lay_together(piece.picture) for piece in inside]
    usual = _best_shift(np.sum(tiles, axis=0), tile)
    maps = []
    for number, piece in enumerate(undone):
        sure = number < len(found.pieces) and found.pieces[number].log10_p < statistics.log10(
            statistics.LOG_FOUND
        )
        shift = _best_shift(tiles[number], tile) if sure else usual
        to_map = np.diag([1 / _GRID, 1 / _GRID]) @ piece.to_nominal
        to_map[:, 2] += 0.5 / _GRID - 0.5  # from the pixel's center to that of the place
        maps.append((_deviations(piece.picture, tile, shift), to_map))
    return maps


def _keep(even: Floats32, box: Box) -> Floats32:
    """The part of a whitened picture in a box; zeros elsewhere."""
    kept = np.zeros_like(even)
    box.cut(kept)[:] = box.cut(even)
    return kept


def _undo(even: Floats32, found: VideoDetection) -> _Undone:
    height, width = even.shape
    scale = found.scale * period_for(height, width) / TILE
    matrix = Placement(scale, found.aspect, found.angle, found.mirrored).matrix
    inverse = np.linalg.inv(matrix)
    corners = inverse @ np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1]])
    low = np.floor(corners.min(axis=1))
    size = np.ceil(corners.max(axis=1) - low).astype(int) + 1
    picture = cv2.warpAffine(
        even, np.column_stack([matrix, matrix @ low]), (int(size[0]), int(size[1])),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )  # fmt: skip
    return _Undone(np.asarray(picture, dtype=np.float32), np.column_stack([inverse, -low]))


def _lay_together(picture: Floats32) -> Floats64:
    """[160, 160] all tiles of a picture added up."""
    height, width = picture.shape
    padded = np.pad(picture, ((0, -height % TILE), (0, -width % TILE)))
    tiles = padded.reshape(padded.shape[0] // TILE, TILE, padded.shape[1] // TILE, TILE)
    return np.asarray(tiles.sum(axis=(0, 2), dtype=np.float64))


def _best_shift(laid: Floats64, tile: Floats32) -> tuple[int, int]:
    """Where the mark's tile begins (down, across), by the phases of all its waves."""
    spectrum = np.fft.fft2(laid)
    spectrum /= np.maximum(np.abs(spectrum), 1e-9)
    scores = np.fft.ifft2(spectrum * np.conj(np.fft.fft2(tile))).real
    down, across = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return int(down), int(across)


def _deviations(picture: Floats32, tile: Floats32, shift: tuple[int, int]) -> Floats32:
    """[h / 8, w / 8] local correlation with the mark, in standard deviations of that at wrong shifts."""
    rng = np.random.default_rng(0)
    wrong = rng.integers(TILE // 6, TILE - TILE // 6, (_WRONG_SHIFTS, 2))
    energy = np.sqrt(np.maximum(_local_mean(np.square(picture)), 1e-6))
    right = _local_mean(picture * _tiled(tile, shift, picture.shape)) / energy
    others = [
        _local_mean(picture * _tiled(tile, (shift[0] + int(y), shift[1] + int(x)), picture.shape)) / energy
        for y, x in wrong
    ]
    spread = math.sqrt(float(np.square(others).mean()))
    return np.asarray(right / max(spread, 1e-9), dtype=np.float32)


def _tiled(tile: Floats32, shift: tuple[int, int], shape: tuple[int, ...]) -> Floats32:
    rows, columns = ((np.arange(length) - start) % TILE for length, start in zip(shape, shift, strict=True))
    return tile[rows[:, None], columns[None, :]]


def _local_mean(values: Floats32) -> Floats32:
    size = tuple(max(1, -(-length // _GRID)) for length in values.shape[::-1])
    padding = [(0, places * _GRID - length) for places, length in zip(size[::-1], values.shape, strict=True)]
    small = cv2.resize(np.pad(values, padding), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), _REACH / _GRID), dtype=np.float32)


def _title(name: str, video: VideoDetection | None, audio: AudioDetection | None) -> Image8:
    lines = [name]
    for kind, seen in (("picture", video), ("sound", audio)):
        if seen is None:
            lines.append(f"{kind}: none")
            continue
        log10_p = seen.log10_p if isinstance(seen, VideoDetection) else statistics.log10(seen.log_p)
        says = "" if seen.payload is None else f", says {seen.payload.text}"
        lines.append(f"{kind}: {'marked' if seen.found else 'no mark found'}, log10 p = {log10_p:.1f}{says}")
    canvas, draw = _canvas(_LINE * len(lines) + _GAP)
    for number, line in enumerate(lines):
        _write(draw, (_GAP, _GAP + _LINE * number), line, _INK)
    return np.asarray(canvas)


def _thumbnails(
    pieces: Sequence[Piece],
    maps: Sequence[tuple[Floats32, Floats64] | None],
    log10_p: Sequence[float],
) -> Image8:
    columns = min(_COLUMNS, len(pieces))
    width = min((WIDTH - _GAP) // columns - _GAP, 480)
    heights = [max(1, round(width * piece.mean.shape[0] / piece.mean.shape[1])) for piece in pieces]
    row_height = max(heights) + _LINE + _GAP
    canvas, draw = _canvas(row_height * -(-len(pieces) // columns) + _GAP)
    for number, (piece, heat) in enumerate(zip(pieces, maps, strict=True)):
        row, column = divmod(number, columns)
        left, top = _GAP + column * (width + _GAP), _GAP + row * row_height
        canvas.paste(Image.fromarray(_glow(piece, heat, (width, heights[number]))), (left, top))
        sure = number < len(log10_p) and log10_p[number] < statistics.log10(statistics.LOG_FOUND)
        value = f"{log10_p[number]:.1f}" if number < len(log10_p) else "-"
        text = f"{_clock(piece.start)}  log10 p {value}"
        _write(draw, (left, top + heights[number] + 1), text, _SURE if sure else _FAINT)
    return np.asarray(canvas)


def _glow(piece: Piece, heat: tuple[Floats32, Floats64] | None, size: tuple[int, int]) -> Image8:
    """[h, w, 3] the piece as a gray thumbnail, with the places that agree in color."""
    gray = cv2.resize(np.clip(piece.mean, 0, 255), size, interpolation=cv2.INTER_AREA)
    picture = np.repeat((0.75 * gray)[..., None], 3, axis=2).astype(np.float32)
    if heat is not None:
        deviations, to_map = heat
        height, width = piece.mean.shape
        zoom = np.array([width / size[0], height / size[1]])
        linear = to_map[:, :2] * zoom
        offset = to_map[:, 2] + to_map[:, :2] @ (0.5 * zoom - 0.5)
        placed = cv2.warpAffine(
            deviations, np.column_stack([linear, offset]), size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        share = np.clip((placed - _DIM) / (_BRIGHT - _DIM), 0, 1)
        colors = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        picture += (0.55 * np.minimum(1, 4 * share))[..., None] * (colors - picture)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _sound(audio: AudioDetection) -> Image8:
    """A bar for each piece of sound, as high as the mark is sure."""
    canvas, draw = _canvas(_SOUND_HEIGHT + _LINE + 2 * _GAP)
    length = max(start + duration for start, duration, _ in audio.pieces)
    values = [-statistics.log10(log_p) for _, _, log_p in audio.pieces]
    threshold = -statistics.log10(statistics.LOG_FOUND)
    top, scale = max([2 * threshold, *values]), (WIDTH - 2 * _GAP) / max(length, 1e-9)
    base = _GAP + _SOUND_HEIGHT
    for (start, duration, _), value in zip(audio.pieces, values, strict=True):
        left, right = (round(_GAP + time * scale) for time in (start, start + duration))
        height = round(_SOUND_HEIGHT * max(0.0, value) / top)
        box = (left, base - height, max(left, right - 2), base)
        draw.rectangle(box, fill=_SURE if value > threshold else _UNSURE)
    level = base - round(_SOUND_HEIGHT * threshold / top)
    draw.line((_GAP, level, WIDTH - _GAP, level), fill=_FAINT)
    text = (
        f"sound, 0:00 to {_clock(length)}: -log10 p of each piece; the line is where one is found by itself"
    )
    _write(draw, (_GAP, base + 2), text, _INK)
    return np.asarray(canvas)


def _canvas(height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (WIDTH, height), _BACKGROUND)
    return canvas, ImageDraw.Draw(canvas)


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, color: tuple[int, int, int]) -> None:
    printable = "".join(letter if 31 < ord(letter) < 255 else "?" for letter in text)  # what the font has
    draw.text(place, printable, fill=color, font=ImageFont.load_default(14))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
