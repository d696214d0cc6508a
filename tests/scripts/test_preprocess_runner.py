from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.scripts.preprocess.runner import Outcome, Rejected, read_rejects, run_step


@dataclass(frozen=True)
class _Item:
    name: str


def _work(folder: Path, item: _Item) -> None:
    if item.name == "bad":
        raise Rejected("too  short")
    if item.name == "broken":
        raise OSError("disk")
    (folder / item.name).touch()


def _run(folder: Path, names: str, processes: int = 1) -> Outcome:
    return run_step(
        "demo",
        [_Item(name) for name in names.split()],
        partial(_work, folder),
        lambda item: (folder / item.name).is_file(),
        folder,
        processes,
    )


def test_counts_reports_and_resumes(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    assert _run(tmp_path, "there a bad broken") == Outcome(done=1, skipped=1, rejected=1, failed=1)
    assert read_rejects(tmp_path, "demo") == {"bad": "too short"}
    # what was rejected is not tried again, what failed is
    assert _run(tmp_path, "there a bad broken b") == Outcome(done=1, skipped=3, rejected=0, failed=1)


def test_a_step_in_which_everything_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="broken: OSError: disk"):
        _run(tmp_path, "broken")


def test_processes_give_the_same_result(tmp_path: Path) -> None:
    assert _run(tmp_path, "a b bad c", processes=2) == Outcome(done=3, skipped=0, rejected=1, failed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "rejects"]
