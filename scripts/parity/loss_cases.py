"""Parity case ``sync_loss``: Wav2Lip's and the paper's lip-sync loss, reproduced by :mod:`losses.sync`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from videoretalking.core.config import load_config
from videoretalking.core.locations import bundled
from videoretalking.losses.sync import sync_bce_loss, sync_loss, sync_probability
from videoretalking.models.lipsync_expert import stack_lower_half
from videoretalking.train.steps.lnet import LNetTrainingConfig

Fields = dict[str, Any]

_LNET_CONFIG = bundled("configs/lnet.yaml")


def sync_loss_case(inputs: dict[str, Fields]) -> dict[str, Fields]:
    """Losses, the expert's view of a clip, and the weights of L-Net's total.

    Args:
        inputs: sub-case name to input fields, as the kit's loader gives them.

    Returns:
        Sub-case name to the expected fields.
    """
    results = {name: _losses(fields) for name, fields in inputs.items() if "label_mixed" in fields}
    clip = torch.from_numpy(inputs["clip_layout"]["generated_bcthw"])
    results["clip_layout"] = {"expert_input": stack_lower_half(clip).numpy()}
    weights = load_config(LNetTrainingConfig, _LNET_CONFIG).loss_weights
    names = [str(name) for name in inputs["total"]["names"]]
    results["total"] = {"paper_lnet_weights": np.array([getattr(weights, name) for name in names])}
    results["negative_cosine"] = {"status": _unclamped_status(inputs["negative_cosine"])}
    return results


def _unclamped_status(fields: Fields) -> str:
    """Name of the error that the published loss ends in: it takes the cross-entropy of the cosine as it is."""
    audio, video = (torch.from_numpy(fields[key]) for key in ("audio", "video"))
    try:
        F.binary_cross_entropy(sync_probability(audio, video), torch.ones(len(audio)))
    except RuntimeError as error:
        return type(error).__name__
    return "no error"


def _losses(fields: Fields) -> Fields:
    audio, video, labels = (torch.from_numpy(fields[key]) for key in ("audio", "video", "label_mixed"))
    return {
        "cosine": sync_probability(audio, video).numpy(),
        "bce_in_sync": sync_bce_loss(audio, video, torch.ones(len(audio))).item(),
        "bce_mixed": sync_bce_loss(audio, video, labels[:, 0]).item(),
        "paper_eq7": sync_loss(audio, video, min_probability=0.0).item(),
    }


CASES: dict[str, Callable[[dict[str, Fields]], dict[str, Fields]]] = {"sync_loss": sync_loss_case}
