"""CPBD: the share of edges that look sharp (Narvekar and Karam 2009). Higher is sharper, range 0..1.

Reproduces the widely used port of the authors' program on 8-bit luma. The paper measures whole frames; frames
of a video are averaged with equal weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Flags, Floats64
from videoretalking.metrics.base import Chunk, Clip, Metric, luma

BLOCK = 64  # pixels; remainders at the right and bottom are ignored
MIN_EDGE_SHARE = 0.002  # a block counts if more of its pixels are Canny edges
BETA = 3.6  # exponent of the detection probability
PERCENT_AT_JNB = 63  # detection probability of a blur that is just noticeable, in whole percent
WIDTH_JNB = 3  # just noticeable edge width in pixels
WIDTH_JNB_LOW_CONTRAST = 5  # the same in blocks of at most LOW_CONTRAST levels
LOW_CONTRAST = 50
MAX_STEPS = 100  # pixels after the direct neighbor that one side of an edge may extend
CANNY_SIGMA = 1.0
CANNY_LOW, CANNY_HIGH = 0.1, 0.2  # on gradients of 0..255 values: practically every local maximum


@dataclass(frozen=True)
class EdgeWidths:
    """What CPBD measures before it counts.

    Attributes:
        canny: [H, W] bool, edges that decide whether a block counts.
        edges: [H, W] bool, Sobel edges whose width is measured.
        widths: [H, W] int32 edge width in pixels; 0 where none was measured.
    """

    canny: Flags
    edges: Flags
    widths: npt.NDArray[np.int32]


def cpbd(gray: npt.NDArray[np.uint8]) -> float:
    """CPBD of one image; 0 where no edge can be measured.

    Args:
        gray: [H, W] uint8.
    """
    measured = measure_edges(gray)
    sharp = total = 0
    for top in range(0, gray.shape[0] - BLOCK + 1, BLOCK):
        for left in range(0, gray.shape[1] - BLOCK + 1, BLOCK):
            block = np.s_[top : top + BLOCK, left : left + BLOCK]
            if measured.canny[block].mean() <= MIN_EDGE_SHARE:
                continue
            contrast = int(gray[block].max()) - int(gray[block].min())
            just_noticeable = WIDTH_JNB_LOW_CONTRAST if contrast <= LOW_CONTRAST else WIDTH_JNB
            widths = measured.widths[block]
            widths = widths[widths > 0]
            probability = 1.0 - np.exp(-((widths / just_noticeable) ** BETA))
            # Rounding to whole percent keeps a width equal to the just noticeable one (63.2 %) on the sharp side.
            sharp += int(np.count_nonzero(np.rint(100.0 * probability) <= PERCENT_AT_JNB))
            total += widths.size
    return sharp / total if total else 0.0


def measure_edges(gray: npt.NDArray[np.uint8]) -> EdgeWidths:
    """Edges of an image and their widths along the rows."""
    image = gray.astype(np.float64)
    edges = _sobel_edges(image)
    return EdgeWidths(canny=canny(image), edges=edges, widths=_edge_widths(image, edges))


def _sobel_edges(image: Floats64) -> Flags:
    """Strict local maxima, along the row or the column, of the thresholded squared x-derivative."""
    energy = (cv2.Sobel(image, cv2.CV_64F, 1, 0, ksize=3, borderType=cv2.BORDER_REFLECT) / 8.0) ** 2
    energy[energy <= 2.0 * np.sqrt(energy.mean())] = 0.0  # a square against a root, as published
    padded = np.pad(energy, 1)
    middle = padded[1:-1, 1:-1]
    in_row = (middle > padded[1:-1, :-2]) & (middle > padded[1:-1, 2:])
    in_column = (middle > padded[:-2, 1:-1]) & (middle > padded[2:, 1:-1])
    return in_row | in_column


def _edge_widths(image: Floats64, edges: Flags) -> npt.NDArray[np.int32]:
    """Width of each interior edge with a horizontal gradient: how far the ramp extends to both sides."""
    width = np.zeros(image.shape, dtype=np.int32)
    rows, columns = np.nonzero(edges[1:-1, 1:-1])
    rows, columns = rows + 1, columns + 1
    gradient_x = image[rows, columns + 1] - image[rows, columns - 1]
    gradient_y = image[rows + 1, columns] - image[rows - 1, columns]
    angle = 45 * np.rint(np.degrees(np.arctan2(gradient_y, gradient_x)) / 45)
    angle[gradient_x == 0] = 0  # as published, even where the gradient is vertical
    steps = np.diff(image, axis=1)
    for selected, continues in ((angle == 0, steps > 0), (np.abs(angle) == 180, steps < 0)):
        before, after = _run_lengths(continues)
        y, x = rows[selected], columns[selected]
        width[y, x] = 2 + np.minimum(before[y, x - 1], MAX_STEPS) + np.minimum(after[y, x + 1], MAX_STEPS)
    return width


def _run_lengths(steps: Flags) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Unbroken steps that end at, and that begin at, every pixel of a row.

    Args:
        steps: [H, W - 1], whether the step from pixel x to x + 1 continues a ramp.

    Returns:
        Two [H, W] arrays: steps ending at the pixel (to its left), steps beginning there (to its right).
    """
    return _runs_ending(steps), _runs_ending(steps[:, ::-1])[:, ::-1]


def _runs_ending(steps: Flags) -> npt.NDArray[np.int32]:
    columns = np.arange(steps.shape[1] + 1, dtype=np.int32)
    broken = np.pad(~steps, ((0, 0), (1, 0)), constant_values=True)
    return columns - np.maximum.accumulate(np.where(broken, columns, 0), axis=1)


def canny(image: Floats64) -> Flags:
    """Canny edges with interpolated non-maximum suppression, [H, W] bool.

    Args:
        image: [H, W] float64 gray levels in 0..255.
    """
    # Ties between neighbors are common on smooth 8-bit pictures, so the order of summation shows in the count;
    # SciPy's is the one behind the published figures. Imported here because training runs without SciPy.
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(image, CANNY_SIGMA, mode="constant") / _border_weight(image.shape)
    dy, dx = ndimage.sobel(smooth, axis=0), ndimage.sobel(smooth, axis=1)
    magnitude = np.sqrt(dx * dx + dy * dy)
    weak = np.zeros(image.shape, dtype=bool)
    weak[1:-1, 1:-1] = _is_ridge(dx, dy, magnitude) & (magnitude[1:-1, 1:-1] >= CANNY_LOW)
    count, labels = cv2.connectedComponents(weak.astype(np.uint8), connectivity=8)
    strong = np.zeros(count, dtype=bool)
    strong[labels[weak & (magnitude >= CANNY_HIGH)]] = True
    strong[0] = False
    return strong[labels]


@lru_cache(maxsize=4)
def _border_weight(shape: tuple[int, int]) -> Floats64:
    """Share of the Gaussian window that lies inside an image of this shape."""
    from scipy import ndimage

    return ndimage.gaussian_filter(np.ones(shape), CANNY_SIGMA, mode="constant") + np.finfo(np.float64).eps


def _is_ridge(dx: Floats64, dy: Floats64, magnitude: Floats64) -> Flags:
    """[H - 2, W - 2], whether no interpolated neighbor along the gradient is larger."""
    inner = magnitude[1:-1, 1:-1]
    dx, dy = dx[1:-1, 1:-1], dy[1:-1, 1:-1]

    def neighbor(row: int, column: int) -> Floats64:
        height, width = magnitude.shape
        return magnitude[1 + row : height - 1 + row, 1 + column : width - 1 + column]

    steep = np.abs(dy) > np.abs(dx)
    descending = dx * dy >= 0  # the gradient points down-right or up-left
    long, short = np.maximum(np.abs(dx), np.abs(dy)), np.minimum(np.abs(dx), np.abs(dy))
    weight = np.divide(short, long, out=np.zeros_like(long), where=long > 0)
    ridge = np.ones(inner.shape, dtype=bool)
    for sign in (1, -1):
        along_column = np.where(descending, neighbor(sign, 0), neighbor(-sign, 0))
        straight = np.where(steep, along_column, neighbor(0, sign))
        diagonal = np.where(descending, neighbor(sign, sign), neighbor(-sign, sign))
        ridge &= weight * diagonal + (1.0 - weight) * straight <= inner
    return ridge


class Cpbd(Metric):
    """Mean CPBD over the frames of a video.

    Args:
        stride: measure every ``stride``-th frame.
    """

    def __init__(self, stride: int = 1) -> None:
        self.stride = stride

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        self._values: list[float] = []

    def update(self, chunk: Chunk) -> None:
        """Measure the frames of a chunk."""
        for frame in chunk.generated[chunk.every(self.stride)]:
            self._values.append(cpbd(luma(frame)))

    def compute(self) -> dict[str, float]:
        """``cpbd``: mean over frames."""
        return {"cpbd": float(np.mean(self._values))} if self._values else {}
