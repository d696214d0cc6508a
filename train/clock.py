"""Where a run is in its schedule: at the number of its step, or at its share of a time limit."""

from __future__ import annotations

import time

from videoretalking.core.distributed import World, average_over_world
from videoretalking.train.config import LoopConfig

_MANY = 10**12  # steps: more than any time limit allows
_STEPS_A_READING = 8  # where several processes have to agree about the time


class Clock:
    """Tells each step its place in the schedule, and when the run is over.

    Without ``loop.minutes`` the place is the number of the step. With it the schedule, ``loop.steps`` places long,
    is run through in that time, however many optimizer steps are done: decay, warm-up and stages that begin at a
    certain step come at their shares of the time. All processes see the same time.

    Args:
        loop: the run.
        seconds: that earlier starts of the run took.
        world: this process.
        started: of :func:`time.monotonic`, when this start of the run began.
    """

    def __init__(self, loop: LoopConfig, seconds: float, world: World, started: float) -> None:
        self.steps = loop.steps
        self.limit = 60.0 * loop.minutes
        self.world = world
        self.seconds = seconds
        self._origin = started - seconds

    @property
    def most_steps(self) -> int:
        """No run has more optimizer steps."""
        return _MANY if self.limit else self.steps

    def place(self, step: int) -> int:
        """Place of a step in the schedule, 0 to ``loop.steps - 1``; to be asked once at the start of each step."""
        if not self.limit:
            return step
        if self.world.size == 1 or step % _STEPS_A_READING == 0:
            spent = {"seconds": time.monotonic() - self._origin}
            self.seconds = average_over_world(spent, self.world)["seconds"]
        return min(int(self.steps * self.seconds / self.limit), self.steps - 1)

    def is_over(self, done: int) -> bool:
        """Whether the run ends after ``done`` steps."""
        return self.seconds >= self.limit if self.limit else done >= self.steps

    def describe(self, done: int, speed: float) -> str:
        """Steps done, speed in steps a second, and time left."""
        left = self.limit - self.seconds if self.limit else (self.steps - done) / speed
        minutes, seconds = divmod(max(0, int(left)), 60)
        total = "" if self.limit else f"/{self.steps}"
        return (
            f"step {done}{total}, {speed:.2f} steps/s, {minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
        )
