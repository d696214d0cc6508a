"""Reader of a small copy of algorithm cases: plain arrays, one archive a case, and the tolerances beside them.

A kit brings its own reader; this one serves a folder of data only, such as ``tests/data/parity/algorithms``. The
keys of an archive are ``in/<sub-case>/<field>`` and ``out/<sub-case>/<field>``; a suffix of an input's field says
how it is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videoretalking.core.arrays import AnyImage

Case = dict[str, dict[str, Any]]

TOLERANCES = "tolerances.json"  # {"case/field": [relative, absolute, share of values that may differ at all]}
_PHOTO = "photo.png"
_EXACT = (0.0, 0.0, 1.0)
_GRID_SIDE = 512  # pixels of an enlarged grid
_EQUAL = 1e-6  # relative and absolute: what counts as the same value for the share


class CaseFolder:
    """The cases of one folder.

    Args:
        root: folder with ``tolerances.json`` and one ``.npz`` a case.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.CASES = sorted(path.stem for path in root.glob("*.npz"))

    @cached_property
    def _tolerances(self) -> dict[str, list[float]]:
        content: dict[str, list[float]] = json.loads((self.root / TOLERANCES).read_text(encoding="utf-8"))
        return content

    @cached_property
    def _photo(self) -> AnyImage:
        with Image.open(self.root / _PHOTO) as picture:
            return np.asarray(picture)

    def load_case(self, name: str) -> tuple[Case, Case]:
        """Inputs and expected values of a case, both {sub-case: {field: value}}."""
        sides: dict[str, Case] = {"in": {}, "out": {}}
        with np.load(self.root / f"{name}.npz", allow_pickle=False) as archive:
            for key in archive.files:
                side, sub, field = key.split("/")
                field, _, stored = field.partition("~")
                sides[side].setdefault(sub, {})[field] = self._decode(stored, archive[key])
        return sides["in"], sides["out"]

    def _decode(self, stored: str, value: AnyImage) -> Any:
        """A field as it is used.

        ``blank`` stands for a black image of the stored shape, where no expected value depends on its pixels;
        ``photo`` for the one photograph of the folder; ``grid`` and ``gridmask`` for an enlarged grid of bytes, the
        latter in [0, 1].
        """
        if stored == "blank":
            return np.zeros(tuple(value), dtype=np.uint8)
        if stored == "photo":
            return self._photo.copy()
        if stored:
            image = _enlarge(value, _GRID_SIDE)
            return image if stored == "grid" else image.astype(np.float32) / np.float32(255)
        return value.item() if value.ndim == 0 else value

    def check(self, case: str, sub: str, answers: Mapping[str, Any]) -> list[str]:
        """Complaints about answers to a sub-case; empty when every field is within its tolerance."""
        expected = self.load_case(case)[1][sub]
        found = []
        for field, given in answers.items():
            limits = self._tolerances.get(f"{case}/{field}", self._tolerances.get(f"{case}/*", _EXACT))
            problem = _difference(np.asarray(given), np.asarray(expected[field]), *limits)
            found += [f"{field}: {problem}"] if problem else []
        return found


def _difference(given: AnyImage, wanted: AnyImage, relative: float, absolute: float, share: float) -> str:
    """What is wrong with a value, or nothing."""
    if given.shape != wanted.shape:
        return f"shape {given.shape}, expected {wanted.shape}"
    if wanted.dtype.kind == "U":
        return "" if (given == wanted).all() else f"{given}, expected {wanted}"
    ours, theirs = given.astype(np.float64), wanted.astype(np.float64)
    off = ~np.isclose(ours, theirs, rtol=relative, atol=absolute, equal_nan=True)
    if off.any():
        return f"{int(off.sum())} of {off.size} values off by up to {np.abs(ours - theirs)[off].max():g}"
    differing = ~np.isclose(ours, theirs, rtol=_EQUAL, atol=_EQUAL, equal_nan=True)
    if differing.any() and differing.mean() > share:
        return f"{100 * differing.mean():.1f} % of the values differ"
    return ""


def _enlarge(grid: AnyImage, side: int) -> AnyImage:
    """[n + 1, n + 1(, C)] bytes at the corners of n x n cells -> [side, side(, C)], bilinear in whole numbers."""
    cell = side // (len(grid) - 1)
    node, offset = np.divmod(np.arange(side), cell)
    corners = grid.astype(np.int64)
    along = offset.reshape(-1, *[1] * (grid.ndim - 1))
    rows = corners[node] * (cell - along) + corners[node + 1] * along
    across = offset.reshape(1, -1, *[1] * (grid.ndim - 2))
    total = rows[:, node] * (cell - across) + rows[:, node + 1] * across
    return np.asarray((total + cell**2 // 2) // cell**2, dtype=np.uint8)
