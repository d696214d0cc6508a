"""VideoReTalking: give it a talking-head video and a speech recording, the mouth follows the speech.

    from videoretalking import Retalker

    Retalker.from_pretrained().dub("speaker.mp4", "speech.wav", "dubbed.mp4")

What a researcher edits (``models``, ``datasets``, ``losses``, ``train``, ``scripts``, ``configs``) stands at the
top of a checkout, the machinery stands in this folder, and all of it is imported as ``videoretalking.<package>``.
In a wheel the folders lie inside this one; in a checkout the path below adds the top level as a second place.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videoretalking.pipeline import InferenceConfig, Retalker

__version__ = "0.2.0"
__all__ = ["InferenceConfig", "Retalker", "__version__"]

_CHECKOUT = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "configs").is_dir() and (_CHECKOUT / "configs").is_dir():
    __path__.append(str(_CHECKOUT))


def __getattr__(name: str) -> Any:
    """Import the main classes when somebody asks for them: ``import videoretalking`` alone needs no PyTorch."""
    if name in ("InferenceConfig", "Retalker"):
        return getattr(import_module("videoretalking.pipeline"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
