"""Networks of the main job with random weights, so small that a test can run them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from videoretalking.models.catalog import build_network, save_network

DEMO = Path(__file__).resolve().parents[1] / "checkpoints" / "demo"
BUNDLED = ("landmarks.safetensors", "face_model.safetensors")

SIZES: dict[str, dict[str, Any]] = {
    "dnet": {
        "descriptor_size": 16,
        "adain_hidden": 8,
        "warp_channels": 4,
        "warp_max_channels": 8,
        "edit_channels": 4,
        "edit_max_channels": 8,
        "edit_residual": 1,
    },
    "lnet": {
        "channels": 8,
        "max_channels": 16,
        "num_residual": 1,
        "attention_heads": 1,
        "attention_head_size": 8,
        "attention_hidden": 8,
        "audio_channels": (4, 4, 4, 8, 16),
        "adain_hidden": 8,
    },
    "enet": {"identity_channels": (4, 4, 4, 4, 8, 8, 8), "style_size": 16, "style_channels": (8, 4)},
    "lipsync_expert": {
        "audio_widths": (2, 2, 2, 2, 4),
        "audio_residual": (0, 0, 0, 0),
        "face_widths": (2, 2, 2, 2, 4),
        "face_residual": (0, 0, 0, 0, 0),
    },
}


def make_tiny_weights(folder: Path) -> Path:
    """Write them with the bundled face tools beside them; skips the test where those are absent."""
    absent = [name for name in BUNDLED if not (DEMO / name).is_file()]
    if absent:
        pytest.skip(f"the bundled weights {', '.join(absent)} are not there")
    torch.manual_seed(0)
    for name, sizes in SIZES.items():
        save_network(
            folder / f"{name}.safetensors", build_network(name, sizes).eval(), license="random, for tests"
        )
    for name in BUNDLED:
        shutil.copyfile(DEMO / name, folder / name)
    return folder
