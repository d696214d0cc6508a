"""Kit inputs and outputs of the paper's own three networks.

The kit speaks each network's published color order and range; ours take and give RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from videoretalking.models.dnet import DNet
from videoretalking.models.enet import ENet
from videoretalking.models.layers.blocks import from_signed, to_signed
from videoretalking.models.lnet import LNet
from videoretalking.models.official.layout import flip_triples
from videoretalking.scripts.parity.published.enet import enhance_from_audio

Tensors = Mapping[str, torch.Tensor]


def run_dnet(network: DNet, inputs: Tensors) -> dict[str, torch.Tensor]:
    """D-Net with the training window (27 frames) and the published inference window (26)."""
    outputs = {}
    for window in (27, 26):
        result = network(from_signed(inputs["image"]), inputs[f"coeffs_{window}"])
        outputs[f"flow_field_{window}"] = result.flow
        outputs[f"warp_image_{window}"] = to_signed(result.warped)
        outputs[f"fake_image_{window}"] = to_signed(result.image)
    return outputs


def run_lnet(network: LNet, inputs: Tensors) -> dict[str, torch.Tensor]:
    """L-Net on BGR faces."""
    return {"image": flip_triples(network(inputs["audio"], flip_triples(inputs["faces"], 1)), 1)}


def run_enet(network: tuple[ENet, LNet], inputs: Tensors) -> dict[str, torch.Tensor]:
    """E-Net with L-Net beside it on BGR faces."""
    enet, lnet = network
    image, low_res = enhance_from_audio(
        lnet, enet, inputs["audio"], flip_triples(inputs["faces"], 1), flip_triples(inputs["target"], 1)
    )
    return {"image": flip_triples(image, 1), "low_res": flip_triples(low_res, 1)}


ADAPTERS: dict[str, tuple[str, Callable[..., dict[str, torch.Tensor]]]] = {
    "dnet": ("dnet", run_dnet),
    "lnet": ("lnet", run_lnet),
    "enet": ("enet", run_enet),
}
