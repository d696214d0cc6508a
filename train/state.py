"""The complete state of a run in one file, written atomically and read without running code."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from videoretalking.core.checkpoint import read_foreign
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

STATE = "state.pt"
LOCK = ".lock"


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run folder; two would overwrite each other's state.

    The lock belongs to the process and ends with it, however it ends; a file left over does no harm. Where the file
    system or the system has no such locks, nothing is kept out. A folder in which nothing was written is removed.

    Raises:
        UserError: another process trains in this folder, or it cannot be written.
    """
    if fcntl is None:
        yield
        return
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise UserError(f"cannot write into {folder} ({error.strerror}); change loop.folder") from None
    with file:
        try:
            # unlike those of flock, these locks do not pass to forked loader workers, which may outlive us a little
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(
                f"{folder}: another process is training here; wait for it, stop it, or give loop.folder a new name"
            ) from None
        except OSError as error:
            logger.warning("%s cannot be locked (%s): start no second training there", folder, error.strerror)
        try:
            yield
        finally:
            if list(folder.iterdir()) == [path]:
                path.unlink()
                folder.rmdir()


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: number of finished steps.
        figures: of the latest validation.
        seconds: that the run took so far, where its time is limited.
    """

    step: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def save_state(folder: Path, parts: Mapping[str, Any], progress: Progress, config: Mapping[str, Any]) -> None:
    """Write ``state.pt``; a process killed at any moment leaves either the old or the new one.

    Args:
        folder: run folder.
        parts: name -> object with ``state_dict``, or None.
        progress: how far the run is.
        config: the resolved config.
    """
    state = {name: part.state_dict() for name, part in parts.items() if part is not None}
    saved = {"step": progress.step, "figures": progress.figures, "config": dict(config), "parts": state}
    saved["seconds"] = progress.seconds
    with atomic_path(folder / STATE) as temporary:
        torch.save(saved, temporary)


def load_state(folder: Path, parts: Mapping[str, Any], config: Mapping[str, Any]) -> Progress:
    """Restore every part in place.

    Args:
        folder: run folder.
        parts: as in :func:`save_state`.
        config: the resolved config; differences to the saved one are logged.

    Returns:
        How far the run was; nothing done if there is no state yet.

    Raises:
        UserError: the state is damaged or belongs to another kind of run.
    """
    path = folder / STATE
    if not path.is_file():
        return Progress()
    saved = read_foreign(path)
    wanted = {name for name, part in parts.items() if part is not None}
    if set(saved["parts"]) != wanted:
        raise UserError(
            f"{path} holds {', '.join(sorted(saved['parts']))}, this run needs {', '.join(sorted(wanted))}; "
            "give loop.folder a new name"
        )
    for line in _differences(saved["config"], config):
        logger.warning("changed since %s was saved: %s", path, line)
    for name, state in saved["parts"].items():
        try:
            parts[name].load_state_dict(state)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{path} does not fit this config ({reason}); give loop.folder a new name"
            ) from None
    return Progress(int(saved["step"]), dict(saved.get("figures", {})), float(saved.get("seconds", 0.0)))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key} {before!r} -> {after!r}")
    return lines
