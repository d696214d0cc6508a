"""What has to be known to repeat a run: code, versions, device, settings; and the JSON files that keep it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.core.locations import ROOT

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "opencv-python",
    "av",
    "librosa",
    "lpips",
    "torch-fidelity",
)


def fingerprint(content: Mapping[str, Any]) -> str:
    """Short hash of JSON-serializable settings, independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def describe_code() -> dict[str, Any]:
    """Commit of the checkout and whether tracked files differ from it; ``unknown`` outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "modified": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "modified": False}


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def describe_environment() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    versions = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_device(device: torch.device) -> str:
    """A device with the name of its chip, where PyTorch knows it: ``cpu``, ``cuda (NVIDIA A100)``."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def describe_runtime(runtime: Mapping[str, Mapping[str, str]]) -> str:
    """Where a method and the measures ran and in which number format, for readers.

    Args:
        runtime: ``method`` and ``measures``, each with ``device`` and ``dtype`` or empty.
    """
    parts = {"method": "networks", "measures": "measured"}
    words = [
        f"{text} on {runtime[part]['device']} in {runtime[part]['dtype']}"
        for part, text in parts.items()
        if runtime[part]
    ]
    return ", ".join(words)


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people to read, atomically; floats keep every digit."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON written by :func:`write_json`.

    Raises:
        UserError: missing or damaged file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; delete it to have it made again") from None
