"""Early warning for sync losses that do not move."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

WATCHED = ("bce", "sync")  # losses that the expert decides
_LEAST_DROP = 0.02  # of the first window's mean


class PlateauWatch:
    """Compares the mean of a loss over each window of steps with its mean over the first window.

    Args:
        window: steps of a window.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self._first: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._count = 0

    def update(self, losses: Mapping[str, float], step: int) -> None:
        """Take the losses of one step; warn at the end of a window that brought nothing."""
        for name in WATCHED:
            if name in losses:
                self._sums[name] = self._sums.get(name, 0.0) + losses[name]
        self._count += 1
        if self._count < self.window:
            return
        for name, total in self._sums.items():
            mean = total / self._count
            first = self._first.setdefault(name, mean)
            if step >= 2 * self.window - 1 and mean > (1.0 - _LEAST_DROP) * first:
                logger.warning(
                    "step %d: the loss '%s' is %.3f and was %.3f at the start: it does not move (0.69 is an "
                    "undecided expert). Check that sound and picture are aligned (offset filter of the "
                    "preprocessing), then try a larger batch, a lower optimizer.lr, a longer warm-up",
                    step,
                    name,
                    mean,
                    first,
                )
        self._sums, self._count = {}, 0

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run."""
        return {"first": dict(self._first), "sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._first, self._sums = dict(state["first"]), dict(state["sums"])
        self._count = int(state["count"])
