"""Every config of the paper starts under torchrun with eight processes: gloo on the CPU, networks of tiny sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from videoretalking.core.checkpoint import read_metadata
from videoretalking.train.catalog import STEPS

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted({path.stem for path in (ROOT / "configs").glob("*.yaml")} & set(STEPS))
SIZES = ("model", "discriminator", "lnet", "expert", "arcface", "perceptual", "size")
# what a debug config takes beyond the step of the paper, which has no aid for small data
AIDS = ("blend_reference", "warp_reference", "standardize")


def tiny(name: str, folder: Path, data: Path) -> Path:
    """The config of the paper with the sizes of its debug config: everything else is as shipped."""
    debug = yaml.safe_load((ROOT / "configs" / "debug" / f"{name}.yaml").read_text(encoding="utf-8"))
    sizes: dict[str, Any] = {key: debug[key] for key in SIZES if key in debug}
    sizes["model"] = {key: value for key, value in sizes["model"].items() if key not in AIDS}
    loop = {"folder": str(folder / name), "steps": 1, "device": "cpu", "workers": 0, "image_every": 0}
    loop |= {"validate_every": 1, "validation_batches": 1, "log_every": 1}
    path = folder / f"{name}.yaml"
    values = {
        "base": str(ROOT / "configs" / f"{name}.yaml"),
        "loop": loop,
        "data": {"root": str(data)},
        **sizes,
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_config_starts_with_eight_processes(name: str, prepared_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "8"]
    command += ["-m", "train", str(tiny(name, tmp_path, prepared_root))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (weights,) = (tmp_path / name).glob("*.safetensors")
    assert read_metadata(weights)["extra"]["step"] == 1
