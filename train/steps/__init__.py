"""One step class per trained network, and the one place where a name chooses among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videoretalking.train.steps.base import Step
from videoretalking.train.steps.dnet import DNetStep, DNetTrainingConfig
from videoretalking.train.steps.enet import ENetStep, ENetTrainingConfig
from videoretalking.train.steps.expert import ExpertStep, ExpertTrainingConfig
from videoretalking.train.steps.landmarks import LandmarkStep, LandmarkTrainingConfig
from videoretalking.train.steps.lnet import LNetStep, LNetTrainingConfig
from videoretalking.train.steps.wav2lip import Wav2LipStep, Wav2LipTrainingConfig

# value of ``network`` in a config -> class of the config, class of the step
STEPS: Mapping[str, tuple[type[Any], type[Step]]] = {
    "dnet": (DNetTrainingConfig, DNetStep),
    "lnet": (LNetTrainingConfig, LNetStep),
    "enet": (ENetTrainingConfig, ENetStep),
    "lipsync_expert": (ExpertTrainingConfig, ExpertStep),
    "wav2lip": (Wav2LipTrainingConfig, Wav2LipStep),
    "landmarks": (LandmarkTrainingConfig, LandmarkStep),
}
