"""Every config of the paper starts under torchrun with eight processes: gloo on the CPU, networks of tiny sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_configs import NAMES, ROOT, tiny_config

from videoretalking.core.checkpoint import read_metadata


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_config_starts_with_eight_processes(name: str, prepared_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "8"]
    command += ["-m", "train", str(tiny_config(name, tmp_path, prepared_root))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (weights,) = (tmp_path / name).glob("*.safetensors")
    assert read_metadata(weights)["extra"]["step"] == 1
