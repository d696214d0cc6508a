"""What L-Net's and Wav2Lip's trainings on little data share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from videoretalking.core.errors import UserError
from videoretalking.models.catalog import load_network
from videoretalking.models.layers.audio_encoder import AudioEncoder
from videoretalking.models.lipsync_expert import LipSyncExpert


@dataclass(frozen=True, kw_only=True)
class TalkingAids:
    """What L-Net's and Wav2Lip's trainings on little data share.

    Attributes:
        audio_encoder: checkpoint of an expert whose audio encoder starts this one's; "" for a fresh one.
        reference_gap: distances of references from their frames, or None for any (:class:`NearLNetClips`).
        align_references: show references in the pose of their frames, in the plane.
        silence: probability of silent sound with a mouth that rests closed.
        far_references: share of samples whose references have mouths unlike those of their frames.
        neutral_references: share of samples whose references are as D-Net renders them; needs the data of
            :mod:`scripts.preprocess.neutral`.
        gray_judges: show expert and landmark network the output in the colors of the target, so that they push no
            colors (:func:`losses.judges.with_colors_of`).
    """

    audio_encoder: str = ""
    reference_gap: tuple[int, int] | None = None
    align_references: bool = False
    silence: float = 0.0
    far_references: float = 0.0
    neutral_references: float = 0.0
    gray_judges: bool = False

    def sample_options(self) -> dict[str, Any]:
        """Arguments of :class:`NearLNetClips`."""
        return {
            "reference_gap": self.reference_gap,
            "align_references": self.align_references,
            "silence": self.silence,
            "far_references": self.far_references,
            "neutral_references": self.neutral_references,
        }


def start_audio_encoder(encoder: AudioEncoder, expert: str) -> None:
    """Copy the trained audio encoder of a lip-sync expert, which already tells the movements of the mouth apart.

    Args:
        encoder: the encoder to start; changed in place.
        expert: checkpoint of the expert; "" changes nothing.

    Raises:
        UserError: no such expert, or its audio encoder has other sizes.
    """
    if not expert:
        return
    trained = load_network(expert, expected="lipsync_expert", fold=False)
    assert isinstance(trained, LipSyncExpert)
    try:
        encoder.load_state_dict(trained.audio_encoder.state_dict())
    except RuntimeError:
        raise UserError(
            f"the audio encoder of {expert} has other sizes than this network's: make them alike (the expert's "
            "audio_residual must be [2, 2, 2, 1]), or set audio_encoder=''"
        ) from None
