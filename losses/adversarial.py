"""Adversarial losses on discriminator logits (paper, equation 13).

Equation 13 prints D(O_HR) in its first term where D(I_GT), the score of a real image, is meant. All functions
return values to be minimized.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from videoretalking.core.errors import UserError

KINDS = ("non_saturating", "hinge")


def generator_loss(fake: torch.Tensor, kind: str = "non_saturating") -> torch.Tensor:
    """What the generator minimizes.

    ``non_saturating`` is -log D(G), Goodfellow's replacement of the log(1 - D(G)) in equation 13, whose
    gradient vanishes while the discriminator wins; ``hinge`` is minus the mean logit.

    Args:
        fake: logits of generated images, any shape; high means real.
        kind: one of ``KINDS``.

    Returns:
        Scalar, lower is better: in (0, inf) for ``non_saturating``, any sign for ``hinge``.

    Raises:
        UserError: unknown kind.
    """
    fake = fake.float()
    if _checked(kind) == "hinge":
        return -fake.mean()
    return F.softplus(-fake).mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor, kind: str = "non_saturating") -> torch.Tensor:
    """What the discriminator minimizes: -log D(real) - log(1 - D(fake)), or the hinge version.

    Args:
        real: logits of real images, any shape.
        fake: logits of generated images, detached from the generator.
        kind: one of ``KINDS``.

    Returns:
        Scalar >= 0, lower is better; 2 ln 2 (``non_saturating``) or 2 (``hinge``) for an undecided one.

    Raises:
        UserError: unknown kind.
    """
    real, fake = real.float(), fake.float()
    if _checked(kind) == "hinge":
        return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _checked(kind: str) -> str:
    if kind not in KINDS:
        raise UserError(f"unknown adversarial loss {kind!r}, choose {' or '.join(KINDS)}")
    return kind
