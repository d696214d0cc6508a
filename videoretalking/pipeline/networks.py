"""The networks of pass 2, loaded and prepared for the device."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from videoretalking.core.devices import choose_device, choose_dtype, keep_freed_memory
from videoretalking.core.errors import UserError
from videoretalking.faces.parsing import FaceParser
from videoretalking.models.enet import ENet
from videoretalking.models.int8 import is_large
from videoretalking.pipeline.config import RenderConfig, RuntimeConfig
from videoretalking.pipeline.weights import Weights

logger = logging.getLogger(__name__)

_PARSERS = ("bisenet", "parsenet")  # the paper's, which is also the cheaper one, then the published program's
_BATCH = {"cuda": 16, "mps": 8, "cpu": 4}


@dataclass(frozen=True)
class Networks:
    """What pass 2 runs.

    Attributes:
        dnet: None leaves the expression as it is.
        lnet: L-Net or the Wav2Lip baseline.
        enet: None enlarges bilinearly.
        restorer: GFPGAN for the mouth; None without weights or wish.
        ganimation: for upper-face emotions; None without wish.
        expert: lip-sync expert for the report; None without weights.
        parser: masks of faces, by a network or from landmarks.
        device: where they are.
        dtype: number format under autocast; int8 is tried on a network's first batch.
        batch_size: faces in one call.
    """

    dnet: nn.Module | None
    lnet: nn.Module
    enet: ENet | None
    restorer: nn.Module | None
    ganimation: nn.Module | None
    expert: nn.Module | None
    parser: FaceParser
    device: torch.device
    dtype: torch.dtype
    batch_size: int


def load_networks(weights: Weights, render: RenderConfig, runtime: RuntimeConfig) -> Networks:
    """Load what the settings need.

    Raises:
        UserError: missing, damaged or wrong checkpoints; a device that is not there.
    """
    device = choose_device(runtime.device)
    dtype = choose_dtype(runtime.dtype, device, runtime.compile)
    batch_size = runtime.batch_size or default_batch_size(device)
    precision = str(dtype).removeprefix("torch.")
    if dtype == torch.int8:
        precision = "float32, large ones in int8 where that looks the same"
    logger.info("networks on %s in %s, %d faces a batch", device, precision, batch_size)

    def load(name: str, wanted: bool = True) -> nn.Module | None:
        return prepare(weights.load(name, device), runtime.compile) if wanted else None

    restore = render.restore > 0.0 and weights.path("gfpgan") is not None
    if render.restore > 0.0 and not restore:
        logger.info("no mouth restorer: gfpgan.safetensors is not there, teeth stay as E-Net paints them")
    if render.upper_face != "original" and weights.path("ganimation") is None:
        raise UserError(
            f"--up-face {render.upper_face} needs ganimation.safetensors in {weights.folder}; "
            "see checkpoints/README.md"
        )
    parser = next((name for name in _PARSERS if render.parse and weights.path(name) is not None), "")
    logger.info("face masks %s", f"by {parser}" if parser else "from landmarks")
    lnet = load("lnet")
    assert lnet is not None
    return Networks(
        dnet=load("dnet", render.neutralize),
        lnet=lnet,
        enet=cast("ENet | None", load("enet", render.enhance)),
        restorer=load("gfpgan", restore),
        ganimation=load("ganimation", render.upper_face != "original"),
        expert=load("lipsync_expert", weights.path("lipsync_expert") is not None),
        parser=FaceParser(load(parser, True) if parser else None, device),
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def default_batch_size(device: torch.device) -> int:
    """Faces in one call of a network where the settings do not say."""
    return _BATCH.get(device.type, 4)


def prepare(network: nn.Module, compiled: bool = False) -> nn.Module:
    """Channels-last weights, which convolutions read fastest, and on demand torch.compile.

    A large network on the CPU also changes how the process keeps memory (:func:`core.devices.keep_freed_memory`).
    """
    network = network.to(memory_format=torch.channels_last)
    if is_large(network) and next(network.parameters()).device.type == "cpu":
        keep_freed_memory()
    if compiled and isinstance(network, ENet):
        network.identity_encoder.compile()
        network.paint = torch.compile(network.paint)  # type: ignore[method-assign]
    elif compiled:
        network.compile()
    return network
