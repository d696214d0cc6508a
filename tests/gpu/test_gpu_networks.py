"""Every network of the catalog on the GPU gives what it gives on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest
import torch
from gpu_compare import ERROR, Compare, lived_in, tensors
from tiny_weights import DEMO, SIZES
from torch import nn

from videoretalking.core.quality import psnr
from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.catalog import NETWORKS, build_network, load_network
from videoretalking.models.layers.blocks import fold_spectral_norm
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.formats import MIN_PSNR, main_output
from videoretalking.pipeline.stages.mask import class_shares

Shapes = tuple[tuple[int, ...], ...]

FACES: Shapes = ((2, 1, 80, 16), (2, 6, 96, 96))
CLIPS: Shapes = ((2, 5, 1, 80, 16), (2, 6, 5, 96, 96))
ENHANCED: Shapes = ((2, 3, 96, 96), (2, 3, 384, 384))
PAPER = {"two_layer_residual": True, "spectral": True, "spectral_warping": True, "adain_after": True}
WHOLE = {"reference_skips": True, "blend_reference": True, "warp_reference": True, "norm": "batch"}
TINY_BISENET = {
    "depths": (1, 1, 1, 1),
    "context_channels": 16,
    "fusion_channels": 16,
    "auxiliary_channels": 8,
}


# What pass 2 runs in the engine's format: all but the expert, which measures.
PAINTERS = ("dnet", "lnet", "enet", "wav2lip", "parsenet", "bisenet", "gfpgan", "ganimation")
PARSERS = ("parsenet", "bisenet")


@dataclass(frozen=True)
class Case:
    """A network and what goes into it, uniform in [0, 1].

    Attributes:
        name: in the catalog.
        shapes: of its inputs.
        sizes: that differ from the released ones.
        options: of the call.
        gain: factor on the kernels of a network without norms, whose output would be constant otherwise.
        error: largest error of float32 on the device, in standard deviations.
    """

    name: str
    shapes: Shapes
    sizes: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    gain: float = 1.0
    error: float = ERROR

    def build(self) -> nn.Module:
        network = build_network(self.name, self.sizes)
        for module in network.modules():
            if self.gain != 1.0 and isinstance(module, nn.Conv2d):
                module.weight.data.mul_(self.gain)
        return fold_spectral_norm(lived_in(network, *self.inputs(), **self.options))

    def inputs(self) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        return [torch.rand(*shape, generator=generator) for shape in self.shapes]


CASES: dict[str, Case] = {
    "dnet": Case("dnet", ((2, 3, 64, 64), (2, 73, 27)), SIZES["dnet"] | {"standardize": True}),
    "dnet-paper": Case("dnet", ((2, 3, 64, 64), (2, 73, 27)), SIZES["dnet"] | PAPER),
    "dnet-released": Case("dnet", ((2, 3, 256, 256), (2, 73, 26))),
    "lnet": Case("lnet", CLIPS, SIZES["lnet"]),
    "lnet-whole": Case("lnet", FACES, SIZES["lnet"] | WHOLE, {"parts": True}),
    # float32 itself allows no less here: a CPU's two ways of convolving, oneDNN and plain, are 1.1e-4 apart
    "lnet-released": Case("lnet", FACES, error=2 * ERROR),
    "enet": Case("enet", ENHANCED, SIZES["enet"]),
    "enet-released": Case("enet", ENHANCED),
    "enet_discriminator": Case(
        "enet_discriminator", ((2, 3, 96, 96),), {"widths": (8, 16, 16), "detail_gain": 4.0}
    ),
    "patch_discriminator": Case(
        "patch_discriminator", ((2, 3, 96, 96),), {"widths": (8, 16, 16), "detail_gain": 4.0}
    ),
    "reconnet": Case("reconnet", ((2, 3, 224, 224),), {"depths": (1, 1, 1, 1)}),
    "lipsync_expert": Case("lipsync_expert", ((6, 1, 80, 16), (6, 15, 48, 96))),
    "syncnet": Case(
        "syncnet",
        ((2, 1, 13, 20), (2, 3, 5, 224, 224)),
        {"audio_widths": (8,) * 6, "lip_widths": (8,) * 6, "embedding_size": 16},
    ),
    "wav2lip": Case("wav2lip", CLIPS),
    "wav2lip_discriminator": Case(
        "wav2lip_discriminator", ((2, 3, 5, 96, 96),), {"widths": (8, 8, 16, 16, 16, 16, 16)}, gain=3.0
    ),
    "landmarks": Case("landmarks", ((2, 3, 128, 128),)),
    "parsenet": Case("parsenet", ((2, 3, 256, 256),), {"widths": (8, 16, 16), "num_body_blocks": 2}),
    "bisenet": Case("bisenet", ((6, 3, 128, 128),), TINY_BISENET),
    "gpen": Case(
        "gpen", ((2, 3, 64, 64),), {"widths": (8, 16, 16, 16, 16), "style_size": 16, "num_mapping_layers": 2}
    ),
    "gfpgan": Case(
        "gfpgan",
        ((2, 3, 64, 64),),
        {"widths": (8, 16, 16, 16, 16), "style_size": 16},
        {"return_side_images": True},
    ),
    "ganimation": Case("ganimation", ((2, 3, 128, 128), (2, 17)), {"width": 8, "num_blocks": 2}),
    "arcface": Case(
        "arcface",
        ((2, 3, 112, 112),),
        {"widths": (8, 8, 16, 16), "depths": (1, 1, 2, 1), "embedding_size": 32},
    ),
    "sface": Case("sface", ((2, 3, 112, 112),), {"width_multiplier": 0.25}),
    "vgg19": Case("vgg19", ((2, 3, 96, 96),), {"width_multiplier": 0.125}),
    "efficientnet_lite0": Case("efficientnet_lite0", ((2, 3, 97, 96),), {"width_multiplier": 0.25}),
    "retinaface": Case("retinaface", ((2, 3, 160, 192),), {"depths": (1, 1, 1, 1), "channels": 16}),
    "s3fd": Case(
        "s3fd",
        ((2, 3, 160, 192),),
        {
            "stage_channels": (8,) * 5,
            "stage_depths": (1, 1, 1, 1, 1),
            "context_channels": 16,
            "extra_channels": (8,) * 4,
        },
    ),
}
BUNDLED = {
    "dnet": Case("dnet", ((2, 3, 256, 256), (2, 73, 27))),
    "lnet": Case("lnet", FACES),
    "lnet_no_attention": Case("lnet", FACES),
    "enet": Case("enet", ENHANCED),
    "lipsync_expert": Case("lipsync_expert", ((2, 1, 80, 16), (2, 15, 48, 96))),
    "wav2lip": Case("wav2lip", FACES),
    "landmarks": Case("landmarks", ((2, 3, 128, 128),)),
}


def test_no_network_is_forgotten() -> None:
    assert {case.name for case in CASES.values()} == set(NETWORKS)
    known = {*BUNDLED, "face_model", "templates"}
    assert {path.stem for path in DEMO.glob("*.safetensors")} <= known


@torch.inference_mode()
def both(network: nn.Module, case: Case, device: torch.device) -> tuple[Any, Any]:
    """What a network gives on the device and on the CPU."""
    inputs = case.inputs()
    wanted = network(*inputs, **case.options)
    moved = deepcopy(network).to(device)
    return moved(*(tensor.to(device) for tensor in inputs), **case.options), wanted


@pytest.mark.gpu
@pytest.mark.parametrize("key", CASES)
def test_float32_is_that_of_the_cpu(key: str, device: torch.device, compare: Compare) -> None:
    found, wanted = both(CASES[key].build(), CASES[key], device)
    for (name, here), (_, there) in zip(tensors(found), tensors(wanted), strict=True):
        compare(name, here, there, CASES[key].error)


@pytest.mark.gpu
@pytest.mark.parametrize("key", BUNDLED)
def test_bundled_weights_give_the_same(key: str, device: torch.device, compare: Compare) -> None:
    found, wanted = both(load_network(DEMO / f"{key}.safetensors"), BUNDLED[key], device)
    for (name, here), (_, there) in zip(tensors(found), tensors(wanted), strict=True):
        compare(name, here, there, ERROR)


@torch.inference_mode()
def quality(
    network: nn.Module, case: Case, device: torch.device, record: Callable[[str, object], None]
) -> float:
    """Decibels between a network in the engine's bfloat16 on the device and in float32 on the CPU."""
    function: Callable[..., Any] = network
    if case.name in PARSERS:
        function = partial(class_shares, cast(BiSeNet, network))
    inputs = case.inputs()
    wanted = main_output(function(*inputs)).clamp(0.0, 1.0)
    with torch.inference_mode(False):
        own = deepcopy(network)
    runner = Engine(device, torch.bfloat16, batch_size=2).prepare(own)
    if case.name in PARSERS:
        runner = runner.using(partial(class_shares, cast(BiSeNet, runner.network)))
    found = runner(*inputs).cpu().clamp(0.0, 1.0)
    decibels = float(psnr(found[None], wanted[None]))
    record("decibels of bfloat16", f"{decibels:.1f}")
    return decibels


@pytest.mark.gpu
@pytest.mark.parametrize("key", [key for key, case in BUNDLED.items() if case.name in PAINTERS])
def test_bundled_pictures_in_bfloat16(
    key: str, device: torch.device, record_property: Callable[[str, object], None]
) -> None:
    network = load_network(DEMO / f"{key}.safetensors")
    assert quality(network, BUNDLED[key], device, record_property) >= MIN_PSNR


@pytest.mark.gpu
@pytest.mark.parametrize("key", [key for key, case in CASES.items() if case.name in PAINTERS])
def test_pictures_of_random_weights_in_bfloat16(
    key: str, device: torch.device, record_property: Callable[[str, object], None]
) -> None:
    """The engine goes on to a finer format where bfloat16 is not enough; a CPU has none that is fast."""
    found = quality(CASES[key].build(), CASES[key], device, record_property)
    assert found >= (MIN_PSNR if device.type == "cuda" else 28.0)
