"""What a run keeps beside its latest state: numbered states and weights, and the best weights.

A save is several files. Each is written whole or not at all, ``state.pt`` first; what a killed run did not come to
write after it is made up for at the next start, from that state.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.models.catalog import save_network
from videoretalking.train.config import LoopConfig
from videoretalking.train.state import STATE, Progress

logger = logging.getLogger(__name__)

KEPT = "kept"
BEST = "best.safetensors"
_NUMBERED = re.compile(r"(\d{8,})\.(pt|safetensors)")


class Keeper:
    """Writes the weights of a run, numbered copies, and the best weights.

    Args:
        folder: run folder.
        network: its name in the catalog.
        loop: what is kept.
        settings: the resolved config, stored in the weights.
    """

    def __init__(self, folder: Path, network: str, loop: LoopConfig, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.loop = loop
        self.settings = settings
        self.weights = folder / f"{network}.safetensors"
        self._best = self._read_best()

    def is_due(self, step: int) -> bool:
        """Whether the state after ``step`` steps is saved."""
        every = [count for count in (self.loop.save_every, self.loop.keep_every) if count]
        return step == self.loop.steps or any(step % count == 0 for count in every)

    def make_up(self, network: nn.Module, progress: Progress) -> None:
        """Write what belongs to the state of a continued run and is not there."""
        if progress.step == 0:
            return
        if not self.weights.is_file() or read_metadata(self.weights)["extra"].get("step") != progress.step:
            logger.info("%s belongs to another step than the state: written anew", self.weights)
            self._export(self.weights, network, progress)
        if self._is_kept(progress.step) and not all(path.is_file() for path in self._numbered(progress.step)):
            self._keep(progress.step)

    def save(self, network: nn.Module, progress: Progress) -> None:
        """Write the weights that belong to the state just saved, and the numbered copies of both."""
        self._export(self.weights, network, progress)
        if self._is_kept(progress.step):
            self._keep(progress.step)
            self._prune(progress.step)

    def judge(self, network: nn.Module, progress: Progress) -> None:
        """Write the best weights if these are better.

        Raises:
            UserError: validation gives no figure of that name.
        """
        name = self.loop.best
        if not name:
            return
        if name not in progress.figures:
            raise UserError(
                f"loop.best: validation gives no figure {name!r}, choose one of {', '.join(progress.figures)}"
            )
        value = progress.figures[name]
        sign = 1.0 if self.loop.best_is == "highest" else -1.0
        if math.isfinite(value) and (self._best is None or sign * value > sign * self._best):
            self._export(self.folder / BEST, network, progress)
            self._best = value
            logger.info("best weights so far: %s %.4g after step %d", name, value, progress.step)

    def _read_best(self) -> float | None:
        """The value of the best weights so far; the file alone says it, so the two cannot contradict each other."""
        path = self.folder / BEST
        if not self.loop.best or not path.is_file():
            return None
        extra = read_metadata(path)["extra"]
        if extra.get("best") == [self.loop.best, self.loop.best_is]:
            value: float = extra["figures"][self.loop.best]
            return value
        logger.warning("%s was chosen by another figure than loop.best and will be replaced", path)
        return None

    def _export(self, path: Path, network: nn.Module, progress: Progress) -> None:
        extra = {"step": progress.step, "figures": progress.figures, "training": self.settings}
        if self.loop.minutes:
            extra["minutes"] = progress.seconds / 60.0
        if path.name == BEST:
            extra["best"] = [self.loop.best, self.loop.best_is]
        save_network(path, network, self.loop.license, extra)

    def _is_kept(self, step: int) -> bool:
        every = self.loop.keep_every
        return self.loop.keep_last > 0 or (every > 0 and step % every == 0)

    def _numbered(self, step: int) -> list[Path]:
        return [self.folder / KEPT / f"{step:08d}{suffix}" for suffix in (".pt", ".safetensors")]

    def _keep(self, step: int) -> None:
        (self.folder / KEPT).mkdir(exist_ok=True)
        for source, target in zip((self.folder / STATE, self.weights), self._numbered(step), strict=True):
            _link(source, target)

    def _prune(self, step: int) -> None:
        """Remove numbered files up to a step that are neither among the latest of them nor of a kept step.

        Later ones are there where a run went back to an earlier state; they are no rivals of what it saves now.
        """
        every, last = self.loop.keep_every, self.loop.keep_last
        numbers = {
            path: int(match[1]) for path in (self.folder / KEPT).iterdir() if (match := _is_number(path))
        }
        found = {path: number for path, number in numbers.items() if number <= step}
        latest = sorted(set(found.values()))[-last:] if last else []
        for path, number in found.items():
            if number not in latest and (every == 0 or number % every):
                path.unlink(missing_ok=True)


def _is_number(path: Path) -> re.Match[str] | None:
    return _NUMBERED.fullmatch(path.name)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, at no cost of space: later saves replace the first name, not the content."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
