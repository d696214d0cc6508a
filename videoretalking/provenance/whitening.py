"""Telling the mark from the picture: what is left of frames when their own content is taken away.

The mark is weak everywhere; a picture's content is strong in few places and directions, such as an edge. So the
picture is cut into small overlapping windows, each is transformed, and the stronger a coefficient, the less it
counts: ``x / (x^2 + g^2)``, which is the best a detector can do where contents are distributed as Cauchy's law
says. What a codec wiped out comes out as nearly zero, and what is content only comes out as nearly zero too.

The mark raises the brightness by red and green, which shifts the colors as well; contents are plain there, and so
the colors tell much where no codec took them.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from videoretalking.core.arrays import AnyImage, Floats32

_WINDOW = 16  # pixels, of the brightness; tiles hold waves of 8.5 to 40 pixels
_COLOR_WINDOW = 8  # of the colors, which have half as many
_HOP = 4  # pixels from window to window; small pictures need all that can be had
_LARGE, _LARGE_HOP = 150_000, 8  # from so many pixels on windows lie less densely
_SMOOTH = 3.0  # pixels: sigma of what is taken away first, so that windows need not hold it
_TYPICAL = 1.75  # gray levels at which a coefficient begins to count as content
_REGION = 32.0  # pixels: sigma of the regions that are compared
_COLORS = -0.8  # weight of the colors; a mark that raises the brightness lowers them

Complex64 = npt.NDArray[np.complex64]


def whiten(gray: AnyImage, color: AnyImage | None = None) -> Floats32:
    """Take the content away as far as it can be told from the mark.

    Args:
        gray: [H, W] gray levels, the mean of a few frames.
        color: [h, w] sum of both color differences of them, in levels, of half the size or so; None for none.

    Returns:
        [H, W] in no particular unit.
    """
    height, width = gray.shape
    hop = _HOP if height * width < _LARGE else _LARGE_HOP
    white = _reduce(np.asarray(gray, dtype=np.float32), _WINDOW, hop, _SMOOTH)
    if color is not None and min(color.shape) > _COLOR_WINDOW:
        small = _reduce(np.asarray(color, dtype=np.float32), _COLOR_WINDOW, _HOP, _SMOOTH / 2)
        white *= hop**2 / _HOP**2  # as if windows lay as densely
        white += np.float32(_COLORS) * cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return white


def _reduce(picture: Floats32, window: int, hop: int, smooth: float) -> Floats32:
    """Weaken what is strong, window by window."""
    height, width = picture.shape
    detail = picture - cv2.GaussianBlur(picture, (0, 0), smooth)
    below, right = -height % window + window, -width % window + window
    padded = cv2.copyMakeBorder(detail, window, below, window, right, cv2.BORDER_REFLECT)
    rise = np.sin(np.pi * np.arange(window) / window).astype(np.float32)
    taper = np.outer(rise, rise)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window))[::hop, ::hop]
    spectra: Complex64 = scipy.fft.rfft2(windows * taper)
    spectra /= window
    spectra /= np.square(spectra.real) + np.square(spectra.imag) + np.float32(_TYPICAL**2)
    parts = scipy.fft.irfft2(spectra, (window, window)) * (taper * window)
    total = np.zeros_like(padded)
    every = window // hop  # windows that lie side by side
    for y in range(every):
        for x in range(every):
            part = parts[y::every, x::every]
            down, across = part.shape[0] * window, part.shape[1] * window
            laid = part.transpose(0, 2, 1, 3).reshape(down, across)
            total[y * hop : y * hop + down, x * hop : x * hop + across] += laid
    return np.asarray(total[window : window + height, window : window + width], dtype=np.float32)


def level(white: Floats32) -> Floats32:
    """A whitened picture, or a part of one, where loud regions count less, and which ends softly at the rim.

    What is loud after whitening is noise that fills its region; the mark is not louder than other faint things.
    """
    height, width = white.shape
    power = cv2.GaussianBlur(np.square(white), (0, 0), _REGION)
    weights = 1.0 / (power + float(power.mean()) + 1e-12)
    return np.asarray(white * weights * (_rim(height)[:, None] * _rim(width)[None, :]), dtype=np.float32)


def _rim(length: int) -> Floats32:
    margin = max(2, length // 64)
    place = np.arange(length)
    return np.minimum(1.0, (0.5 + np.minimum(place, place[::-1])) / margin).astype(np.float32)
