"""Which number format runs where, and how the process keeps memory."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from videoretalking.core import devices
from videoretalking.core.devices import autocast, choose_device, choose_dtype
from videoretalking.core.errors import UserError

CPU = torch.device("cpu")

_TOUCHED = """
import resource, sys, threading
import torch
from videoretalking.core.devices import keep_freed_memory
assert keep_freed_memory(sys.argv[1] == "keep")
def touch():
    for _ in range(12):
        torch.empty(40 * 2**20, dtype=torch.uint8).fill_(1)
if sys.argv[2] == "main":
    touch()
else:
    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _page_faults(mode: str, thread: str) -> int:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _TOUCHED, mode, thread]
    return int(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep freed memory")
@pytest.mark.parametrize("thread", ["main", "other"])
def test_kept_memory_is_not_touched_for_the_first_time_again(thread: str) -> None:
    pages = 40 * 2**20 // 4096
    assert _page_faults("return", thread) - _page_faults("keep", thread) > 3 * pages  # of 11 repetitions


def test_float32_on_cuda_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    switches: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = True
        choose_device("cpu")
        assert all(switch.allow_tf32 for switch in switches)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert choose_device("auto").type == "cuda"
        assert not any(switch.allow_tf32 for switch in switches)
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def test_formats_by_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {}
    for flags in ("avx512f", "avx512f avx512_vnni", "avx512f avx512_vnni amx_bf16"):
        monkeypatch.setattr(devices, "_cpu_flags", lambda flags=flags: flags)
        chosen[flags.split()[-1]] = choose_dtype("auto", CPU)
        assert choose_dtype("float32", CPU) == torch.float32
    has_operator = hasattr(torch.ops.onednn, "qconv2d_pointwise")
    assert chosen == {
        "avx512f": torch.float32,
        "avx512_vnni": torch.int8 if has_operator else torch.float32,
        "amx_bf16": torch.bfloat16,
    }
    monkeypatch.setattr(devices, "_cpu_flags", lambda: "avx512_vnni")
    assert choose_dtype("auto", CPU, compiled=True) == torch.float32
    with pytest.raises(UserError, match="--compile"):
        choose_dtype("int8", CPU, compiled=True)
    monkeypatch.setattr(devices, "_cpu_flags", lambda: "avx512f")
    with pytest.raises(UserError, match="AVX-512 VNNI"):
        choose_dtype("int8", CPU)


def test_int8_is_no_autocast_format() -> None:
    with autocast(CPU, torch.int8):
        assert not torch.is_autocast_enabled("cpu")
