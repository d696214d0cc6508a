"""Audio-visual and perception networks on the parity kit: the kit's channel order and range -> ours -> back.

The kit feeds what the published programs feed (BGR for Wav2Lip and SyncNet, [-1, 1] or [0, 255] in places);
our networks take RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from videoretalking.models.layers.blocks import from_signed
from videoretalking.models.official.layout import flip_triples
from videoretalking.models.syncnet import SyncNet

Tensors = dict[str, torch.Tensor]
Adapter = Callable[[nn.Module, Mapping[str, torch.Tensor]], Tensors]


def run_wav2lip_generator(network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    """BGR in and out."""
    image = network(inputs["audio"], flip_triples(inputs["faces"], dim=1))
    return {"image": flip_triples(image, dim=1)}


def run_wav2lip_syncnet(network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    """BGR in."""
    audio, face = network(inputs["audio"], flip_triples(inputs["faces"], dim=1))
    return {"audio_embedding": audio, "face_embedding": face}


def run_wav2lip_disc(network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    """BGR in."""
    return {"realness": network(flip_triples(inputs["faces"], dim=1))}


def run_syncnet(network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    """BGR in [0, 255] in."""
    assert isinstance(network, SyncNet)
    frames = flip_triples(inputs["frames"], dim=1) / 255.0
    return {
        "audio_embedding": network.embed_audio(inputs["mfcc"]),
        "lip_embedding": network.embed_lips(frames),
        "lip_feature": network.lip_features(frames),
    }


def run_reconnet(network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    """As ours."""
    return {"coeffs": network(inputs["image"])}


def run_arcface(network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    """[-1, 1] in."""
    return {"embedding": network(from_signed(inputs["image"]))}


# Name in the kit -> name in ``models.catalog`` and how to run it.
ADAPTERS: dict[str, tuple[str, Adapter]] = {
    "wav2lip_generator": ("wav2lip", run_wav2lip_generator),
    "wav2lip_syncnet": ("lipsync_expert", run_wav2lip_syncnet),
    "wav2lip_disc": ("wav2lip_discriminator", run_wav2lip_disc),
    "syncnet": ("syncnet", run_syncnet),
    "reconnet": ("reconnet", run_reconnet),
    "arcface": ("arcface", run_arcface),
}
