"""Key table of the released E-Net (``ENet.pth``); its inner L-Net comes from ``LNet.pth``."""

from __future__ import annotations

from collections.abc import Iterator

from videoretalking.models.official.layout import Layout

_NUM_DOWN = 6
_NUM_CONVS = 4
_NUM_RGB = 2


def _modules() -> Iterator[tuple[str, str]]:
    yield "conv_body_first", "identity_encoder.first"
    for index in range(_NUM_DOWN):
        yield f"conv_body_down.{index}", f"identity_encoder.downs.{index}"
    yield "final_conv", "identity_encoder.final"
    yield "final_linear", "identity_encoder.linear"
    for index in range(_NUM_CONVS):
        theirs, ours = f"style_convs.{index}", f"style_convs.{index}"
        yield f"{theirs}.weight", f"{ours}.noise_scale"
        yield f"{theirs}.bias", f"{ours}.bias"
        yield f"{theirs}.modulated_conv", f"{ours}.conv"
    for index in range(_NUM_RGB):
        yield f"to_rgbs.{index}.bias", f"to_rgbs.{index}.bias"
        yield f"to_rgbs.{index}.modulated_conv", f"to_rgbs.{index}.conv"


_FIRST = "style_convs.0.conv"  # reads L-Net's image, whose three channels are modulated one by one

LAYOUT = Layout(
    network="enet",
    files=("ENet.pth",),
    outer_keys=("state_dict",),
    skip=("low_res",),
    modules=dict(_modules()),
    squeeze=tuple(f"style_convs.{index}.conv.weight" for index in range(_NUM_CONVS))
    + tuple(f"to_rgbs.{index}.conv.weight" for index in range(_NUM_RGB)),
    flip_inputs=(
        "identity_encoder.first.weight",
        f"{_FIRST}.weight",
        "to_rgbs.0.bias",
        "to_rgbs.1.bias",
    ),
    flip_outputs=(
        f"{_FIRST}.modulation.weight",
        f"{_FIRST}.modulation.bias",
        "to_rgbs.0.conv.weight",
        "to_rgbs.1.conv.weight",
    ),
    license="Apache-2.0, VideoReTalking release (github.com/OpenTalker/video-retalking)",
)
