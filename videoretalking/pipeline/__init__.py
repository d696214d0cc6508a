"""The main job: analyze a video once, then render it with any speech (paper, figure 3)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videoretalking.pipeline.config import InferenceConfig
    from videoretalking.pipeline.retalker import Retalker

__all__ = ["InferenceConfig", "Retalker"]

_HOMES = {"InferenceConfig": "config", "Retalker": "retalker"}


def __getattr__(name: str) -> Any:
    """Import the main classes when somebody asks for them: reading a command line needs no PyTorch."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
