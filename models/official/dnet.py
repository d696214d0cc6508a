"""Key table of the released D-Net (``DNet.pt``)."""

from __future__ import annotations

from collections.abc import Iterator

from videoretalking.models.official.blocks import nested
from videoretalking.models.official.layout import Layout

ADAIN = {"mlp_shared.0": "hidden", "mlp_gamma": "scale", "mlp_beta": "shift"}
PLAIN_BLOCK = {"model.0": "conv", "model.1": "norm"}

# The released decoder counts its stages from the finest (0); ours is a list from the coarsest.
_NUM_STAGES = 3
_FIRST_UP = 4  # the warping decoder's blocks are called 4, 3, 2


def _modules() -> Iterator[tuple[str, str]]:
    yield "mapping_net.first.0", "mapping.first"
    for index in range(3):
        yield f"mapping_net.encoder{index}.1", f"mapping.layers.{index}"

    hourglass = "warpping_net.hourglass"  # official spelling
    yield f"{hourglass}.encoder.input_layer", "warping.first"
    for index in range(5):
        yield from _warp_block(f"{hourglass}.encoder.encoder{index}", f"warping.encoder.{index}")
    for index in range(_NUM_STAGES):
        theirs, ours = f"{hourglass}.decoder.decoder{_FIRST_UP - index}", f"warping.decoder.{index}"
        yield from _warp_block(theirs, ours)
        yield f"{theirs}.conv_s", f"{ours}.conv_skip"
        yield from nested(f"{theirs}.norm_s", f"{ours}.norm_skip", ADAIN)
    yield "warpping_net.flow_out.0", "warping.flow_norm"
    yield "warpping_net.flow_out.2", "warping.flow_conv"

    yield from nested("editing_net.encoder.first", "editing.first", PLAIN_BLOCK)
    for index in range(_NUM_STAGES):
        yield from nested(f"editing_net.encoder.down{index}", f"editing.downs.{index}", PLAIN_BLOCK)
        stage = _NUM_STAGES - 1 - index
        for block in range(2):
            theirs = f"editing_net.decoder.res{stage}.res{block}"
            ours = f"editing.residuals.{index}.{block}"
            yield f"{theirs}.conv2", f"{ours}.conv2"
            yield from nested(f"{theirs}.norm2", f"{ours}.norm2", ADAIN)
        yield from nested(f"editing_net.decoder.up{stage}", f"editing.ups.{index}", PLAIN_BLOCK)
        yield from nested(f"editing_net.decoder.jump{stage}", f"editing.jumps.{index}", PLAIN_BLOCK)
    yield "editing_net.decoder.final.model.0", "editing.final.conv"


def _warp_block(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for index in range(2):
        yield f"{theirs}.conv_{index}", f"{ours}.conv{index + 1}"
        yield from nested(f"{theirs}.norm_{index}", f"{ours}.norm{index + 1}", ADAIN)


LAYOUT = Layout(
    network="dnet",
    files=("DNet.pt",),
    outer_keys=("net_G_ema",),
    modules=dict(_modules()),
    # the released forward pass computes these and discards the result
    unused=tuple(
        f"editing_net.decoder.res{stage}.res{block}.{part}"
        for stage in range(_NUM_STAGES)
        for block in range(2)
        for part in ("conv1", "norm1")
    ),
    license="Apache-2.0, VideoReTalking release (github.com/OpenTalker/video-retalking)",
)
