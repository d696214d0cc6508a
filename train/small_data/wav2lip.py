"""Wav2Lip on little data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from videoretalking.datasets.small_data import NearLNetClips
from videoretalking.losses.judges import with_colors_of
from videoretalking.train.small_data.talking import TalkingAids, start_audio_encoder
from videoretalking.train.steps.wav2lip import Wav2LipStep, Wav2LipTrainingConfig


@dataclass(frozen=True, kw_only=True)
class Wav2LipSmallDataConfig(Wav2LipTrainingConfig, TalkingAids):
    """Config of Wav2Lip's training on little data."""

    step: Literal["wav2lip_small_data"] = "wav2lip_small_data"


class Wav2LipSmallDataStep(Wav2LipStep):
    """Wav2Lip's step with near references and a trained audio encoder.

    Args:
        config: the training config.
        device: where to compute.
    """

    samples = NearLNetClips
    config: Wav2LipSmallDataConfig

    def __init__(self, config: Wav2LipSmallDataConfig, device: torch.device) -> None:
        super().__init__(config, device)
        start_audio_encoder(self.network.audio_encoder, config.audio_encoder)

    def sample_options(self) -> dict[str, Any]:
        """References and silence."""
        return super().sample_options() | self.config.sample_options()

    def judged(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The output, in the colors of the target where the config says so."""
        return with_colors_of(output, target) if self.config.gray_judges else output
