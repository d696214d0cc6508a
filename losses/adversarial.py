"""Adversarial losses on discriminator logits (paper, equation 13).

Equation 13 prints D(O_HR) in its first term where D(I_GT), the score of a real image, is meant. Both functions
return values to be minimized.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def generator_loss(fake: torch.Tensor) -> torch.Tensor:
    """What the generator minimizes: -log D(G).

    This is Goodfellow's non-saturating replacement of the log(1 - D(G)) in equation 13, whose gradient vanishes
    while the discriminator wins.

    Args:
        fake: logits of generated images, any shape; high means real.

    Returns:
        Scalar > 0, lower is better; ln 2 for an undecided discriminator.
    """
    return F.softplus(-fake.float()).mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """What the discriminator minimizes: -log D(real) - log(1 - D(fake)).

    Args:
        real: logits of real images, any shape.
        fake: logits of generated images, detached from the generator.

    Returns:
        Scalar > 0, lower is better; 2 ln 2 for an undecided discriminator.
    """
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()
