"""Early warning for a sync loss that does not move."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

logger = logging.getLogger(__name__)

_LEAST_DROP = 0.02  # of the first window's mean


class PlateauWatch:
    """Compares the mean of a sync loss over each window of steps with its mean over the first window.

    Args:
        name: of the loss.
        window: steps of a window.
    """

    def __init__(self, name: str, window: int) -> None:
        self.name = name
        self.window = window
        self._first: float | None = None
        self._sum: float | torch.Tensor = 0.0  # stays on the device until the window ends
        self._count = 0

    def update(self, losses: Mapping[str, torch.Tensor], step: int) -> None:
        """Take the losses of one step, in which this one may be missing; warn at the end of an idle window."""
        if self.name in losses:
            self._sum = self._sum + losses[self.name].detach().float()
            self._count += 1
        if (step + 1) % self.window:
            return
        if self._count:
            mean = float(self._sum) / self._count
            if self._first is None:
                self._first = mean
            elif mean > (1.0 - _LEAST_DROP) * self._first:
                logger.warning(
                    "step %d: the loss '%s' is %.3f and was %.3f at the start: it does not move (0.69 is an "
                    "undecided expert). Check that sound and picture are aligned (offset filter of the "
                    "preprocessing), then try a larger batch, a lower optimizer.lr, a longer warm-up",
                    step,
                    self.name,
                    mean,
                    self._first,
                )
        self._sum, self._count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run."""
        return {"first": self._first, "sum": float(self._sum), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._first, self._sum, self._count = state["first"], float(state["sum"]), int(state["count"])
