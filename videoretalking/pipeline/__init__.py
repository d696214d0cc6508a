"""The main job: analyze a video once, then render it with any speech (paper, figure 3)."""

from videoretalking.pipeline.config import InferenceConfig
from videoretalking.pipeline.retalker import Retalker

__all__ = ["InferenceConfig", "Retalker"]
