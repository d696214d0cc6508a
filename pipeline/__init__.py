"""The main job: analyse a video once, then render it with any speech (paper, figure 3)."""

from pipeline.options import InferenceConfig
from pipeline.retalker import Retalker

__all__ = ["InferenceConfig", "Retalker"]
