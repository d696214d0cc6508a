"""Scalars of training steps, kept on the device until somebody reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from videoretalking.losses.total import require_finite

_MOST_PENDING = 2000  # entries that wait on the device; then they are fetched without a report


class _Entry(NamedTuple):
    """Some scalars of one micro-batch; ``values`` [N] float32 on the device."""

    step: int
    names: tuple[str, ...]
    required: bool
    values: torch.Tensor


class Tally:
    """Means of losses and metrics from one report to the next, and the watch over NaN and infinity.

    To read a single number makes the program wait until the device has done everything asked of it before, so
    numbers are only collected here, and all of them are fetched in one go. What is not finite is therefore noticed
    some steps late; whoever saves anything has to call :meth:`check` first, so that nothing of it reaches a file.
    """

    def __init__(self) -> None:
        self._pending: list[_Entry] = []
        self._clips: dict[int, Sequence[str]] = {}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(
        self, step: int, values: Mapping[str, torch.Tensor], clips: Sequence[str] = (), required: bool = True
    ) -> None:
        """Take scalars of a micro-batch without waiting for them.

        Args:
            step: number of the step, from 0.
            values: scalars by name, all on one device.
            clips: names of the clips of the step, for the message.
            required: whether they have to be finite.
        """
        if not values:
            return
        stacked = torch.stack([value.detach().float() for value in values.values()])
        self._pending.append(_Entry(step, tuple(values), required, stacked))
        self._clips[step] = clips
        if len(self._pending) >= _MOST_PENDING:
            self.check()

    def check(self) -> None:
        """Fetch what is pending.

        Raises:
            UserError: a required value is NaN or infinite; the message names those of the first such step, and the
                clips of its batch.
        """
        if not self._pending:
            return
        pending, clips, self._pending, self._clips = self._pending, self._clips, [], {}
        fetched = iter(torch.cat([entry.values for entry in pending]).tolist())
        required: dict[int, dict[str, float]] = {}
        for entry in pending:
            for name in entry.names:
                value = next(fetched)
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1
                if entry.required:
                    of_step = required.setdefault(entry.step, {})
                    of_step[name] = of_step.get(name, 0.0) + value  # NaN and infinity survive a sum
        for step, values in required.items():
            require_finite(values, step, clips[step])

    def report(self) -> dict[str, float]:
        """The mean of every name since the last report; errors as in :meth:`check`."""
        self.check()
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means
