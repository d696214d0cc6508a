"""The configs of the paper with networks of tiny sizes, so that a CPU trains them in seconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from videoretalking.train.catalog import STEPS

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted({path.stem for path in (ROOT / "configs").glob("*.yaml")} & set(STEPS))
SIZES = ("model", "discriminator", "lnet", "expert", "arcface", "perceptual", "size")
# what a debug config takes beyond the step of the paper, which has no aid for small data
AIDS = ("blend_reference", "warp_reference", "standardize")


def tiny_config(name: str, folder: Path, data: Path, steps: int = 1, **settings: Any) -> Path:
    """Write ``<folder>/<name>.yaml``: the config as shipped, with the sizes of its debug config.

    Args:
        name: of the config.
        folder: for the config and, in it, the run.
        data: prepared data.
        steps: of the run, on the CPU.
        settings: further keys.
    """
    debug = yaml.safe_load((ROOT / "configs" / "debug" / f"{name}.yaml").read_text(encoding="utf-8"))
    known = {field.name for field in dataclasses.fields(STEPS[name][0])}
    sizes: dict[str, Any] = {key: debug[key] for key in SIZES if key in debug and key in known}
    sizes["model"] = {key: value for key, value in sizes["model"].items() if key not in AIDS}
    loop = {"folder": str(folder / name), "steps": steps, "device": "cpu", "workers": 0, "image_every": 0}
    loop |= {"validate_every": steps, "validation_batches": 1, "log_every": 1}
    values = {
        "base": str(ROOT / "configs" / f"{name}.yaml"),
        "data": {"root": str(data)},
        **sizes,
        **settings,
    }
    path = folder / f"{name}.yaml"
    values["loop"] = loop | settings.get("loop", {})
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
