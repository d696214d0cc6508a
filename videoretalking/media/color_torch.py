"""RGB to the planes of an encoder, and those of a decoder to RGB, on tensors, without leaving their device.

To an encoder: the same as :func:`~videoretalking.media.color.rgb_to_planes`, but for OpenCV's rounding: a byte may
differ by one. From a decoder: the very bytes of :func:`~videoretalking.media.color.frame_to_rgb`, by the integer
arithmetic of FFmpeg's scaler.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from videoretalking.core.arrays import Ints64
from videoretalking.media.color import (
    FULL_RANGE,
    HALF_BAND,
    SPECIMEN_SIZE,
    Chroma,
    ColorTags,
    PlaneLayout,
    Planes,
    rgb_to_yuv_matrix,
    specimen_samples,
)

# libswscale's fixed point: bits of the weights across and down, and of what is between both (8-bit samples in 15).
_ACROSS_BITS, _DOWN_BITS, _BETWEEN_BITS = 14, 12, 7
_BETWEEN_MAX = (1 << 15) - 1
_CHROMA_BITS = 10  # that it drops after the columns; a level is then 1 << 9
_LEVEL = 1 << (_DOWN_BITS + _BETWEEN_BITS - _CHROMA_BITS)
_COLOR_BITS = 13  # of the weights in the mix of colors
# H.273 matrix -> of limited range in 16 bits: red chroma in red, blue in blue, blue and red in green (less of it).
# Numbers of its own that are up to three off the rounded ones; all others are BT.601.
_BT601_WEIGHTS = (104597, 132201, 25675, 53279)
_CHROMA_WEIGHTS = {
    1: (117489, 138438, 13975, 34925),
    4: (104448, 132798, 24759, 53109),
    7: (117579, 136230, 16907, 35559),
    9: (110013, 140363, 12277, 42626),
}
_RESULT_BITS = 22  # of a level in the mixed colors
_RESULT_MAX = (1 << 30) - 1
_PIXEL, _UNIT = 1 << 17, 1 << 30  # of its positions and of its distances
_SHARPNESS = int(0.6 * (1 << 24))  # of its cubic, a = -0.6
_TAPS, _WINDOW = 5, 4  # weights that it computes for a pixel, and the most that are not zero


class Place(NamedTuple):
    """How far the first sample of chroma lies from the first pixel, in quarters of a sample of chroma.

    0 is upon it, 1 is between the first two pixels, 2 is upon the second one; of no meaning where chroma is full.
    """

    across: int
    down: int


# The usual ones come first: of MPEG-2, H.264 and HEVC; of JPEG and of streams that say nothing.
_PLACES = [Place(0, 1), Place(1, 1), Place(0, 0), Place(1, 0), Place(0, 2), Place(1, 2)]


@dataclass(frozen=True)
class _Arithmetic:
    """Numbers of a conversion, int32 on the device.

    Attributes:
        across: [4, columns + 1, 2] weights that double the columns (:func:`_doubling`), or [1, 1].
        down: [4, rows + 1, 2, 1] likewise for the rows, or [1, 1].
        gray: [1] what to add to chroma, so that gray becomes 0 and the bits that are dropped are rounded.
        luma_scale: [1] from levels to mixed colors.
        luma_offset: [1] likewise.
    """

    across: Tensor
    down: Tensor
    gray: Tensor
    luma_scale: Tensor
    luma_offset: Tensor


def tensor_to_planes(frames: Tensor, tags: ColorTags, chroma: Chroma) -> Tensor:
    """RGB -> planar YUV, in as many operations for a batch as for one frame.

    Args:
        frames: [N, height, width, 3] uint8; both even unless ``chroma`` is ``full``.
        tags: matrix and range to use.
        chroma: as for :func:`~videoretalking.media.color.rgb_to_planes`.

    Returns:
        uint8, [N, height * 3 / 2, width] or [N, 3, height, width].
    """
    # numbers and not tensors of them: making one on a GPU would wait for it
    luma, *differences = rgb_to_yuv_matrix(tags).tolist()
    colors = frames.permute(3, 0, 1, 2).float()
    bright = _mix(colors, luma)
    if chroma == "full":
        return _to_bytes(torch.stack([bright, *(_mix(colors, weights) for weights in differences)], dim=1))
    rows = 0.5 * (colors[:, :, 0::2] + colors[:, :, 1::2])
    full = torch.stack([_mix(rows, weights) for weights in differences], dim=1)
    half = _halve(full) if chroma == "left" else 0.5 * (full[..., 0::2] + full[..., 1::2])
    planes = torch.cat([bright.flatten(1), half.flatten(1)], dim=1)
    return _to_bytes(planes).unflatten(1, (-1, frames.shape[2]))


def planes_to_tensor(samples: Tensor, layout: PlaneLayout, place: Place) -> Tensor:
    """Samples of a decoder -> RGB, in about twenty operations for a batch, which do not wait for the device.

    Args:
        samples: [N, samples] uint8 (:meth:`~videoretalking.media.color.Planes.copy_to`).
        layout: of the samples.
        place: of the chroma (:func:`chroma_place`).

    Returns:
        [N, height, width, 3] uint8.
    """
    numbers = _arithmetic(layout, place, samples.device)
    red_of_red, green_of_red, green_of_blue, blue_of_blue = _chroma_weights(layout.tags)
    luma = samples[:, : layout.num_luma].unflatten(1, (layout.height, layout.width))
    chroma = samples[:, layout.num_luma :].unflatten(1, (2, *layout.chroma_shape))
    # what is beyond the border has weight 0; it only makes all windows equally long
    beyond = [edge for half in (layout.across, layout.down) for edge in [_WINDOW // 2 * (half - 1)] * 2]
    padded = F.pad(chroma, beyond) if any(beyond) else chroma
    if layout.across == 2:
        wide = _weighted(padded.unsqueeze(-1), numbers.across, -2).flatten(-2)[..., 1:-1]
    else:
        wide = padded * numbers.across
    wide = (wide >> (_ACROSS_BITS - _BETWEEN_BITS)).clamp_(max=_BETWEEN_MAX)
    if layout.down == 2:
        full = _weighted(wide.unsqueeze(-2), numbers.down, -3, numbers.gray).flatten(-3, -2)[..., 1:-1, :]
    else:
        full = torch.addcmul(numbers.gray, wide, numbers.down)
    blue, red = (full >> _CHROMA_BITS).unbind(1)
    bright = torch.addcmul(numbers.luma_offset, luma, numbers.luma_scale)
    colors = torch.empty(*luma.shape, 3, dtype=torch.int32, device=samples.device)
    # Sums beyond 32 bits wrap around as in libswscale: colors that no camera sees.
    torch.add(bright, red, alpha=red_of_red, out=colors[..., 0])
    torch.add(bright, red, alpha=green_of_red, out=colors[..., 1]).add_(blue, alpha=green_of_blue)
    torch.add(bright, blue, alpha=blue_of_blue, out=colors[..., 2])
    # not into bytes at once: a GPU would compute in the format of the output
    return (colors.clamp_(0, _RESULT_MAX) >> _RESULT_BITS).to(torch.uint8)


def chroma_place(planes: Planes, device: torch.device) -> Place | None:
    """Where the chroma of a frame lies; None if :func:`planes_to_tensor` cannot make the frame's colors there.

    The frame's specimen tells, so that no frame is converted by other rules than FFmpeg's scaler has for it:
    interlaced ones are not, nor is any where another version of the scaler, or the device, computes differently.
    """
    layout = planes.layout
    return _specimens(layout.across, layout.down, layout.tags, device).get(planes.specimen().tobytes())


@lru_cache
def _specimens(across: int, down: int, tags: ColorTags, device: torch.device) -> dict[bytes, Place]:
    """What becomes of the specimen, for all places; the first one counts where they do not differ."""
    layout = PlaneLayout(SPECIMEN_SIZE, SPECIMEN_SIZE, across, down, tags)
    samples = torch.from_numpy(specimen_samples(across, down))[None].to(device)
    return {
        planes_to_tensor(samples, layout, place).cpu().numpy().tobytes(): place for place in reversed(_PLACES)
    }


@lru_cache
def _arithmetic(layout: PlaneLayout, place: Place, device: torch.device) -> _Arithmetic:
    rows, columns = layout.chroma_shape
    full = layout.tags.range == FULL_RANGE
    scale, black = (1 << _COLOR_BITS, 0) if full else (round((1 << _COLOR_BITS) * 255 / 219), 16)
    across = down = np.ones((1, 1), dtype=np.int32)
    numbers: list[npt.ArrayLike] = [
        _doubling(columns, place.across, _ACROSS_BITS) if layout.across == 2 else across << _ACROSS_BITS,
        _doubling(rows, place.down, _DOWN_BITS)[..., None] if layout.down == 2 else down << _DOWN_BITS,
        [(1 << (_CHROMA_BITS - 1)) - (128 << (_DOWN_BITS + _BETWEEN_BITS))],
        [scale * _LEVEL],
        [(1 << (_RESULT_BITS - 1)) - black * _LEVEL * scale],
    ]
    # waits for the device, so that streams other than the one that asked first find the numbers there
    return _Arithmetic(*(torch.from_numpy(np.asarray(item, dtype=np.int32)).to(device) for item in numbers))


def _chroma_weights(tags: ColorTags) -> list[int]:
    """Of red chroma in red and green, and of blue chroma in green and blue."""
    red, blue, blue_in_green, red_in_green = _CHROMA_WEIGHTS.get(tags.matrix, _BT601_WEIGHTS)
    weights = [red, -red_in_green, -blue_in_green, blue]
    if tags.range == FULL_RANGE:
        weights = [int(weight * 224 / 255) for weight in weights]
    return [(weight + 4) >> 3 for weight in weights]  # rounded to 13 bits


def _weighted(samples: Tensor, weights: Tensor, dim: int, start: Tensor | None = None) -> Tensor:
    """The sums over windows of four along ``dim``, where weights [4, windows, ...] hold for each."""
    first, *others = (samples.narrow(dim, tap, weights.shape[1]) for tap in range(_WINDOW))
    total = first * weights[0] if start is None else torch.addcmul(start, first, weights[0])
    for window, weight in zip(others, weights[1:], strict=True):
        total.addcmul_(window, weight)
    return total


def _doubling(length: int, place: int, bits: int) -> npt.NDArray[np.int32]:
    """Weights of libswscale's bicubic filter that makes two pixels of a sample.

    Window ``k`` begins two samples before sample ``k``. The first pixel that it makes is number ``2 k - 1`` and the
    second one ``2 k``, so that of all windows together the first and the last pixel are none.

    Args:
        length: samples.
        place: of the first one, in quarters.
        bits: of the fixed point.

    Returns:
        [4, length + 1, 2].
    """
    pixels = np.arange(2 * length)
    places = pixels * (_PIXEL // 2) - place * (_PIXEL // 4)
    # rounded towards zero as C does: a pixel near the left border so loses its leftmost weight
    first = np.trunc((places - (_TAPS - 2) * (_PIXEL // 2)) / _PIXEL).astype(np.int64)
    taps = first[:, None] + np.arange(_TAPS)
    cubic = _cubic(np.abs(taps * _PIXEL - places[:, None]) * (_UNIT // _PIXEL))
    slots = np.clip(taps, 0, length - 1) - ((pixels + 1) // 2 - _WINDOW // 2)[:, None]
    weights = np.zeros((_WINDOW, len(pixels)), dtype=np.int64)
    for tap in range(_TAPS):  # beyond the border stands what is at the border
        used = cubic[:, tap] != 0
        np.add.at(weights, (slots[used, tap], pixels[used]), cubic[used, tap])
    one = 1 << bits
    total = (weights.sum(axis=0) + one // 2) // one
    rounded, error = np.zeros_like(weights), np.zeros_like(total)
    for slot, weight in enumerate(weights):  # what rounding leaves goes to the next weight
        wanted = weight + error
        rounded[slot] = np.sign(wanted) * ((np.abs(wanted) + total // 2) // total)
        error = wanted - rounded[slot] * total
    return np.pad(rounded, ((0, 0), (1, 1))).reshape(_WINDOW, length + 1, 2).astype(np.int32)


def _cubic(distance: Ints64) -> Ints64:
    """Heights of libswscale's cubic at distances in 1 / 2^30, zero from two samples on."""
    square = distance * distance >> 30
    cube = square * distance >> 30
    near = (12 * (1 << 24) - 6 * _SHARPNESS) * cube + (6 * _SHARPNESS - 18 * (1 << 24)) * square
    far = _SHARPNESS * (-6 * cube + 30 * square - 48 * distance + 24 * _UNIT)
    near += 6 * (1 << 24) * _UNIT
    return np.where(distance < _UNIT, near, np.where(distance < 2 * _UNIT, far, 0))


def _mix(colors: Tensor, weights: list[float]) -> Tensor:
    red, green, blue, constant = weights
    return colors[0] * red + colors[1] * green + colors[2] * blue + constant


def _halve(planes: Tensor) -> Tensor:
    """Every other column of [N, 2, height, width], low-pass filtered; the border is mirrored."""
    reach, width = HALF_BAND.shape[1] // 2, planes.shape[-1]
    mode = "reflect" if width > reach else "replicate"
    padded = F.pad(planes.flatten(0, 1), (reach, reach), mode=mode).unflatten(0, planes.shape[:2])
    taps = [
        weight * padded[..., tap : tap + width : 2]
        for tap, weight in enumerate(HALF_BAND[0].tolist())
        if weight
    ]
    return torch.stack(taps).sum(dim=0)


def _to_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0.0, 255.0).to(torch.uint8)
