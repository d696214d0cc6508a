"""How sure a finding is: p-values that hold for whatever was searched, pictures and sounds of any kind.

The null hypothesis says that the key of the mark was drawn independently of the file. The carriers of a mark have
phases (or signs) drawn from the key, so under it ``S = sum of a_k cos(phi_k)`` with magnitudes ``a_k`` that the
file fixes and phases that are uniform and independent. Neither asks how the file's own content is distributed, nor
that it is long. What was searched (places, scales, payloads) is paid for: every hypothesis has a share of the
chance of a false alarm, all shares together are at most 1, and the bound is divided by the share (Bonferroni,
weighted: likely hypotheses have larger shares, which do not depend on what the file shows).

The bound is Chernoff's, sharpened. Let ``K(s) = sum of ln I0(s a_k)``, the logarithm of the moment function of S
(``I0`` is a Bessel function, and ``K(s) <= s^2 / 4 sum of a_k^2``). For every s > 0

    P(S >= t) = integral from t on of exp(K(s) - s x) f_s(x) dx <= exp(K(s) - s t) M / s,

where ``f_s`` is the density of S tilted by ``exp(s x)`` and M any bound of it; without M the same holds with 1
instead of ``M / s``. By Fourier's inversion ``M = 1 / (2 pi) integral of |phi_s(u)| du`` bounds it, with the
characteristic function ``phi_s(u) = product of I0((s + i u) a_k) / I0(s a_k)``. For signs, whose sums have no
density, ``K(s) = sum of ln cosh(s a_k)`` and the factor is 1.

Values are kept as logarithms: a mark that is found in full has a p-value below what a float can hold.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from videoretalking.core.arrays import Floats64

LOG_FOUND = math.log(1e-6)  # found where the p-value is lower; it is a bound, and chance stays far from it
_NEWTON = 6  # steps
_NEGLIGIBLE = 1e-12
_WIDEST, _TURNS = (
    10.0,
    48,
)  # widths of a characteristic function at which it ends, and places where it is taken


def log_p_phases(score: float, magnitudes: npt.ArrayLike, sharp: bool = False) -> float:
    """Bound of the chance that ``sum a_k cos(phi_k)`` reaches ``score``, as a natural logarithm.

    Args:
        score: the sum that was found.
        magnitudes: a_k, every weight included.
        sharp: bound the density too, which lowers the result by 3 or so and takes some milliseconds.
    """
    sizes, score = _scaled(score, magnitudes)
    if score <= 0:
        return 0.0
    tilt, curve = 2 * score, 0.5
    for _ in range(_NEWTON):  # towards the best tilt; every tilt gives a bound
        ratio = special.i1e(tilt * sizes) / special.i0e(tilt * sizes)
        slope = float((sizes * ratio).sum())
        curve = float((np.square(sizes) * (1 - np.square(ratio) - ratio / (tilt * sizes))).sum())
        curve = max(curve, _NEGLIGIBLE)
        tilt = min(max(tilt + (score - slope) / curve, tilt / 2), 2 * tilt)
    log_moment = float((np.log(special.i0e(tilt * sizes)) + tilt * sizes).sum())
    log_p = log_moment - tilt * score
    if sharp:
        log_p += min(0.0, math.log(_density_bound(tilt, sizes, 1 / math.sqrt(curve)) / tilt))
    return min(0.0, log_p)


def log_p_signs(score: float, magnitudes: npt.ArrayLike) -> float:
    """The same for ``sum a_k s_k`` with fair signs ``s_k``."""
    sizes, score = _scaled(score, magnitudes)
    if score <= 0:
        return 0.0
    tilt = score
    for _ in range(_NEWTON):
        ratio = np.tanh(tilt * sizes)
        curve = float((np.square(sizes) * (1 - np.square(ratio))).sum())
        step = (score - float((sizes * ratio).sum())) / max(curve, 1e-9)
        tilt = min(max(tilt + step, tilt / 2), 2 * tilt)
    log_moment = float((np.logaddexp(tilt * sizes, -tilt * sizes) - math.log(2)).sum())
    return min(0.0, log_moment - tilt * score)


def _scaled(score: float, magnitudes: npt.ArrayLike) -> tuple[Floats64, float]:
    """Magnitudes above 0 with a sum of squares of 1, and the score in their unit; 0 where there are none."""
    sizes = np.abs(np.asarray(magnitudes, dtype=np.float64).ravel())
    energy = math.sqrt(float(np.square(sizes).sum()))
    if energy == 0 or not math.isfinite(energy):
        return np.zeros(0), 0.0
    sizes = sizes / energy
    return sizes[sizes > _NEGLIGIBLE], score / energy


def _density_bound(tilt: float, sizes: Floats64, width: float) -> float:
    """Bound of the density of the tilted sum; infinite where few carriers make it up.

    ``width`` is near that of the characteristic function: one over the standard deviation.

    The integrand is even and smooth, so that the trapezoidal rule is as exact as floats are.
    """
    turns = np.linspace(0.0, _WIDEST * width, _TURNS)
    points = tilt * sizes[:, None] + 1j * turns * sizes[:, None]
    # scaled functions: |I0(z)| = |ive(0, z)| exp(Re z), and the exponentials cancel
    logs = np.log(np.abs(special.ive(0, points)) + 1e-300) - np.log(special.i0e(tilt * sizes))[:, None]
    heights = np.exp(logs.sum(axis=0))
    if heights[-1] > _NEGLIGIBLE:
        return math.inf
    return float(np.trapezoid(heights, turns)) / math.pi


def after_search(log_p: float, log_hypotheses: float) -> float:
    """The bound for the best of several hypotheses.

    Args:
        log_p: that of the best alone.
        log_hypotheses: natural logarithm of how many there were, or of one over the share of this one.
    """
    return min(0.0, log_p + log_hypotheses)


def either(*log_ps: float) -> float:
    """The bound for the best of several tests, each after its own search."""
    return after_search(min(log_ps), math.log(len(log_ps)))


def p_value(log_p: float) -> float:
    """The number itself; 0 where a float cannot hold it, so results give the decimal logarithm beside it."""
    return math.exp(log_p)


def log10(log_p: float) -> float:
    """From natural to decimal."""
    return log_p / math.log(10.0)
