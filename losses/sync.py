"""Lip-sync losses on the embeddings of the lip-sync expert (paper, equations 7-8; Prajwal et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# Assumed: equation 8 prints "max ||v|| ||a||" without the second argument of max; a small constant is meant.
_EPS = 1e-8
# Assumed: equation 7 is infinite for a cosine of 0 and undefined below; the probability is kept above this.
MIN_PROBABILITY = 1e-7


def sync_probability(audio: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
    """Cosine of audio and video embeddings (equation 8).

    Args:
        audio: [B, D] embeddings.
        video: [B, D] embeddings.

    Returns:
        [B] float32 in [-1, 1]; in [0, 1] for the expert's non-negative embeddings. 0 for a zero vector.
    """
    return F.cosine_similarity(audio.float(), video.float(), dim=1, eps=_EPS)


def sync_loss(
    audio: torch.Tensor,
    video: torch.Tensor,
    sample_weight: torch.Tensor | None = None,
    min_probability: float = MIN_PROBABILITY,
) -> torch.Tensor:
    """Mean of -log P over the batch (equation 7), with P clamped to [min_probability, 1].

    A clamped row has no gradient: clips that the expert rejects entirely are steered by the other losses.

    Args:
        audio: [B, D] embeddings of the speech windows.
        video: [B, D] embeddings of the generated windows.
        sample_weight: [B] weights, 0 for samples without speech; the mean stays over all B samples.
        min_probability: lower end of the clamp; 0 gives the equation as printed.

    Returns:
        Scalar in [0, -log(min_probability)], 0 for parallel embeddings, lower is better.
    """
    loss = -torch.log(sync_probability(audio, video).clamp(min_probability, 1.0))
    if sample_weight is not None:
        loss = loss * sample_weight
    return loss.mean()


def sync_bce_loss(audio: torch.Tensor, video: torch.Tensor, in_sync: torch.Tensor) -> torch.Tensor:
    """Wav2Lip's loss, which also trains the expert: binary cross-entropy of the cosine.

    A cosine outside [0, 1] (rounding, or embeddings without the final ReLU), where the published code stops with an
    error, counts as the nearer end.

    Args:
        audio: [B, D] embeddings.
        video: [B, D] embeddings.
        in_sync: [B] labels, 1 in sync, 0 not.

    Returns:
        Scalar in [0, 100] (logarithms are limited to -100), ln 2 = 0.693 for an undecided expert, lower is
        better.
    """
    probability, in_sync = sync_probability(audio, video).clamp(0.0, 1.0), in_sync.float()
    return -(in_sync * _limited_log(probability) + (1.0 - in_sync) * _limited_log(1.0 - probability)).mean()


def _limited_log(value: torch.Tensor) -> torch.Tensor:
    """Logarithm of values in [0, 1], at least -100; NaN stays NaN.

    PyTorch's binary_cross_entropy raises an error on NaN (on CUDA it ends the process), where the training loop
    wants to name the batch.
    """
    tiny = torch.finfo(value.dtype).tiny
    return torch.where(value <= tiny, -100.0, torch.log(value.clamp_min(tiny)))


def contrastive_sync_loss(audio: torch.Tensor, video: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Cross-entropy of pairing W windows of speech with W windows of lips, both ways (InfoNCE).

    Not part of the paper.

    Args:
        audio: [B, W, D] unit embeddings of the speech windows of B clips.
        video: [B, W, D] unit embeddings of the lips; window w belongs to ``audio[:, w]``.
        temperature: divides the cosines.

    Returns:
        Scalar >= 0, ln W for an undecided expert, lower is better.
    """
    with torch.autocast(audio.device.type, enabled=False):  # divided by the temperature, rounding would count
        cosines = torch.einsum("bwd,bxd->bwx", audio.float(), video.float()) / temperature
    target = torch.arange(audio.shape[1], device=audio.device).expand(cosines.shape[:2])
    lips = F.cross_entropy(cosines.flatten(0, 1), target.flatten())
    speech = F.cross_entropy(cosines.transpose(1, 2).flatten(0, 1), target.flatten())
    return 0.5 * (lips + speech)
