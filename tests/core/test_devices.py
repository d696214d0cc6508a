"""How the process keeps memory."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

_TOUCHED = """
import resource, sys
import torch
from videoretalking.core.devices import keep_freed_memory
assert keep_freed_memory(sys.argv[1] == "keep")
for _ in range(12):
    torch.empty(64 * 2**20, dtype=torch.uint8).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _page_faults(mode: str) -> int:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _TOUCHED, mode]
    return int(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep freed memory")
def test_kept_memory_is_not_touched_for_the_first_time_again() -> None:
    pages = 64 * 2**20 // 4096
    assert _page_faults("return") - _page_faults("keep") > 3 * pages  # of 11 repetitions
