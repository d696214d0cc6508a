"""The one place where a config chooses how to train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videoretalking.core.config import load_config, merge_layers, read_layers
from videoretalking.core.errors import UserError
from videoretalking.core.locations import bundled, find_file
from videoretalking.train.config import TrainingConfig
from videoretalking.train.small_data.dnet import DNetSmallDataConfig, DNetSmallDataStep
from videoretalking.train.small_data.enet import ENetSmallDataConfig, ENetSmallDataStep
from videoretalking.train.small_data.expert import ExpertSmallDataConfig, ExpertSmallDataStep
from videoretalking.train.small_data.lnet import LNetSmallDataConfig, LNetSmallDataStep
from videoretalking.train.small_data.wav2lip import Wav2LipSmallDataConfig, Wav2LipSmallDataStep
from videoretalking.train.steps.base import Step
from videoretalking.train.steps.dnet import DNetStep, DNetTrainingConfig
from videoretalking.train.steps.enet import ENetStep, ENetTrainingConfig
from videoretalking.train.steps.expert import ExpertStep, ExpertTrainingConfig
from videoretalking.train.steps.landmarks import LandmarkStep, LandmarkTrainingConfig
from videoretalking.train.steps.lnet import LNetStep, LNetTrainingConfig
from videoretalking.train.steps.wav2lip import Wav2LipStep, Wav2LipTrainingConfig

# Value of ``step`` in a config, or of ``network`` where it has no ``step`` -> class of the config, of the step.
STEPS: Mapping[str, tuple[type[Any], type[Step]]] = {
    "dnet": (DNetTrainingConfig, DNetStep),
    "lnet": (LNetTrainingConfig, LNetStep),
    "enet": (ENetTrainingConfig, ENetStep),
    "lipsync_expert": (ExpertTrainingConfig, ExpertStep),
    "wav2lip": (Wav2LipTrainingConfig, Wav2LipStep),
    "landmarks": (LandmarkTrainingConfig, LandmarkStep),
    "dnet_small_data": (DNetSmallDataConfig, DNetSmallDataStep),
    "lnet_small_data": (LNetSmallDataConfig, LNetSmallDataStep),
    "enet_small_data": (ENetSmallDataConfig, ENetSmallDataStep),
    "lipsync_expert_small_data": (ExpertSmallDataConfig, ExpertSmallDataStep),
    "wav2lip_small_data": (Wav2LipSmallDataConfig, Wav2LipSmallDataStep),
}
SMALL_DATA = "_small_data"


def read_training_config(path: Path, overrides: list[str]) -> TrainingConfig:
    """The config whose class its key ``step`` or ``network`` names.

    Raises:
        UserError: no such file, no or an unknown ``network`` or ``step``, an aid for small data without its step,
            and everything that :func:`core.config.load_config` raises.
    """
    if not find_file(path).exists() and bundled(f"configs/{path.stem}.yaml").is_file():
        raise UserError(f"there is no config {path}, did you mean configs/{path.stem}.yaml?")
    values = merge_layers(read_layers(path))
    for item in overrides:
        key, _, value = item.partition("=")
        if key in ("step", "network"):
            values[key] = value
    key = "step" if "step" in values else "network"
    known = [name for name in STEPS if key == "step" or not name.endswith(SMALL_DATA)]
    if "network" not in values:
        raise UserError(f"{path} has no key network, which says what is trained: {', '.join(known)}")
    name = str(values[key])
    if name not in known:
        raise UserError(f"{path}: {key} must be one of {', '.join(known)}, found {name!r}")
    config_class, _ = STEPS[name]
    try:
        config: TrainingConfig = load_config(config_class, path, overrides)
    except UserError:
        _suggest_aids(name, path, overrides)
        raise
    return config


def step_class(config: TrainingConfig) -> type[Step]:
    """The step that belongs to a config."""
    return next(step for config_class, step in STEPS.values() if config_class is type(config))


def _suggest_aids(name: str, path: Path, overrides: list[str]) -> None:
    """Raise an error that names the step for small data, if that one takes what the paper's step refuses."""
    aided = name + SMALL_DATA
    if aided not in STEPS:
        return
    try:
        load_config(STEPS[aided][0], path, overrides)
    except UserError:
        return
    raise UserError(
        f"{path}: it asks for aids for small data, which belong to another step: set step: {aided}"
    )
