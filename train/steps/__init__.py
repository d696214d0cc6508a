"""One step class per trained network, and the one place where a name chooses among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.steps.base import Step
from train.steps.dnet import DNetStep, DNetTraining
from train.steps.enet import ENetStep, ENetTraining
from train.steps.expert import ExpertStep, ExpertTraining
from train.steps.landmarks import LandmarkStep, LandmarkTraining
from train.steps.lnet import LNetStep, LNetTraining
from train.steps.wav2lip import Wav2LipStep, Wav2LipTraining

# value of ``network`` in a config -> class of the config, class of the step
STEPS: Mapping[str, tuple[type[Any], type[Step]]] = {
    "dnet": (DNetTraining, DNetStep),
    "lnet": (LNetTraining, LNetStep),
    "enet": (ENetTraining, ENetStep),
    "lipsync_expert": (ExpertTraining, ExpertStep),
    "wav2lip": (Wav2LipTraining, Wav2LipStep),
    "landmarks": (LandmarkTraining, LandmarkStep),
}
