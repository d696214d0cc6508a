"""Adapters between our face networks and the ranges, orders and names of the parity kit's golden outputs.

Our networks take and return RGB in [0, 1]; each released network has its own convention, restored here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from videoretalking.core.colors import IMAGENET_MEAN, IMAGENET_STD
from videoretalking.models.layers.blocks import from_signed, to_signed

Tensors = Mapping[str, torch.Tensor]
Adapter = Callable[[nn.Module, Tensors], dict[str, torch.Tensor]]


def run_parsenet(network: nn.Module, inputs: Tensors) -> dict[str, torch.Tensor]:
    """RGB in [-1, 1] -> logits and an image in [-1, 1]."""
    output = network(from_signed(inputs["image"]))
    return {"logits": output.logits, "image": to_signed(output.image)}


def run_bisenet(network: nn.Module, inputs: Tensors) -> dict[str, torch.Tensor]:
    """RGB with ImageNet's mean and deviation removed -> three logit maps."""
    image = inputs["image"] * _channels(IMAGENET_STD) + _channels(IMAGENET_MEAN)
    return dict(network(image)._asdict())


def run_gpen(network: nn.Module, inputs: Tensors) -> dict[str, torch.Tensor]:
    """RGB in [-1, 1] -> the same."""
    return {"image": to_signed(network(from_signed(inputs["image"])))}


def run_gfpgan(network: nn.Module, inputs: Tensors) -> dict[str, torch.Tensor]:
    """RGB in [-1, 1] -> the same, with the side images by their size."""
    image, side_images = network(from_signed(inputs["image"]), return_side_images=True)
    sides = {f"rgb_{side.shape[-1]}": to_signed(side) for side in side_images}
    return {"image": to_signed(image), **sides}


def run_ganimation(network: nn.Module, inputs: Tensors) -> dict[str, torch.Tensor]:
    """Image in [-1, 1] and action units -> images in [-1, 1], attention and features."""
    output = network(from_signed(inputs["image"]), inputs["action_units"])
    return {
        "image": to_signed(output.image),
        "color": to_signed(output.color),
        "attention": output.attention,
        "features": output.features,
    }


def run_retinaface(network: nn.Module, inputs: Tensors) -> dict[str, torch.Tensor]:
    """BGR in 0..255 without its mean -> boxes, scores and landmarks."""
    return dict(network((inputs["image"].flip(1) + _mean(network)) / 255.0)._asdict())


def run_s3fd(network: nn.Module, inputs: Tensors) -> dict[str, torch.Tensor]:
    """RGB in 0..255 without the mean -> scores and boxes of the six levels."""
    output = network((inputs["image"] + _mean(network)) / 255.0)
    scores = {f"scores_{level}": value for level, value in enumerate(output.scores, start=1)}
    boxes = {f"boxes_{level}": value for level, value in enumerate(output.boxes, start=1)}
    return scores | boxes


def _channels(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


def _mean(network: nn.Module) -> torch.Tensor:
    return network.get_buffer("mean")


# kit name -> (name in models.catalog, adapter)
ADAPTERS: dict[str, tuple[str, Adapter]] = {
    "parsenet": ("parsenet", run_parsenet),
    "bisenet": ("bisenet", run_bisenet),
    "gpen": ("gpen", run_gpen),
    "gfpgan": ("gfpgan", run_gfpgan),
    "gfpgan_noise": ("gfpgan", run_gfpgan),
    "ganimation": ("ganimation", run_ganimation),
    "retinaface": ("retinaface", run_retinaface),
    "s3fd": ("s3fd", run_s3fd),
}
