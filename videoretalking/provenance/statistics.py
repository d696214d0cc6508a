"""How sure a finding is: p-values that hold for whatever was searched, pictures and sounds of any kind.

The null hypothesis says that the key of the mark was drawn independently of the file. The carriers of a mark have
phases (or signs) drawn from the key, so under it ``S = sum of a_k cos(phi_k)`` with magnitudes ``a_k`` that the
file fixes and phases that are uniform and independent. Such a sum is sub-Gaussian: the moment function of
``cos(phi)`` is the Bessel function ``I0(s) <= exp(s^2 / 4)``, hence ``P(S >= t) <= exp(-t^2 / sum a_k^2)``. For
signs the same holds with ``exp(-t^2 / (2 sum a_k^2))`` (Hoeffding). Neither asks how the file's own content is
distributed, nor that it is long. What was searched (places, scales, payloads) multiplies the bound (Bonferroni).

Values are kept as logarithms: a mark that is found in full has a p-value below what a float can hold.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LOG_FOUND = math.log(1e-6)  # found where the p-value is lower; it is a bound, and chance stays far from it


def log_p_phases(score: float, magnitudes: npt.ArrayLike) -> float:
    """Bound of the chance that ``sum a_k cos(phi_k)`` reaches ``score``, as a natural logarithm.

    Args:
        score: the sum that was found.
        magnitudes: a_k, every weight included.
    """
    energy = float(np.square(np.asarray(magnitudes, dtype=np.float64)).sum())
    return -(score**2) / energy if score > 0 and energy > 0 else 0.0


def log_p_signs(score: float, magnitudes: npt.ArrayLike) -> float:
    """The same for ``sum a_k s_k`` with fair signs ``s_k``."""
    return 0.5 * log_p_phases(score, magnitudes)


def after_search(log_p: float, log_hypotheses: float) -> float:
    """The bound for the best of several hypotheses.

    Args:
        log_p: that of the best alone.
        log_hypotheses: natural logarithm of how many there were.
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
