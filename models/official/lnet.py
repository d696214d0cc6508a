"""Key table of the released L-Net (``LNet.pth``)."""

from __future__ import annotations

from collections.abc import Iterator

from videoretalking.models.official.blocks import CONV_NORM_ACT_LEAVES, nested, numbered
from videoretalking.models.official.dnet import ADAIN, PLAIN_BLOCK
from videoretalking.models.official.layout import SPECTRAL_LEAVES, SPECTRAL_RIGHT, SPECTRAL_WEIGHT, Layout

_NUM_STAGES = 3
_NUM_RESIDUAL = 9
_NUM_ATTENTION = 2
_AUDIO_LAYERS = 13

_FFC_UNIT = {
    "ffc.convl2l": "local_to_local",
    "ffc.convl2g": "local_to_global",
    "ffc.convg2l": "global_to_local",
    "ffc.convg2g.conv1.0": "global_to_global.squeeze",
    "ffc.convg2g.conv1.1": "global_to_global.norm",
    "ffc.convg2g.fu.conv_layer": "global_to_global.fourier.conv",
    "ffc.convg2g.fu.bn": "global_to_global.fourier.norm",
    "ffc.convg2g.conv2": "global_to_global.expand",
}


def _modules() -> Iterator[tuple[str, str]]:
    yield from numbered("audio_encoder", "audio_encoder.layers", range(_AUDIO_LAYERS)).items()

    for theirs, ours in (("inp", "masked"), ("ref", "reference")):
        yield from nested(f"encoder.first_{theirs}", f"visual_encoder.{ours}.0", PLAIN_BLOCK)
        for stage in range(_NUM_STAGES):
            official = f"encoder.{theirs}_down{stage}"
            yield from nested(official, f"visual_encoder.{ours}.{stage + 1}", PLAIN_BLOCK)
    for index in range(_NUM_ATTENTION):
        theirs, ours = f"encoder.ca2.layers.{index}", f"visual_encoder.attention.attentions.{index}"
        yield f"{theirs}.0.normx", f"{ours}.norm_masked"
        yield f"{theirs}.0.normy", f"{ours}.norm_reference"
        yield f"{theirs}.0.fn.to_q", f"{ours}.query"
        yield f"{theirs}.0.fn.to_k", f"{ours}.key"
        yield f"{theirs}.0.fn.to_v", f"{ours}.value"
        yield f"{theirs}.0.fn.to_out.0", f"{ours}.out"
        ours = f"visual_encoder.attention.feedforwards.{index}"
        yield f"{theirs}.1.norm", f"{ours}.norm"
        yield f"{theirs}.1.fn.net.0", f"{ours}.expand"
        yield f"{theirs}.1.fn.net.3", f"{ours}.reduce"

    for index in range(_NUM_STAGES):
        stage = _NUM_STAGES - 1 - index  # the release counts from the finest stage, we from the coarsest
        for block in range(_NUM_RESIDUAL):
            for unit in (1, 2):
                theirs = f"decoder.res{stage}.res{block}.conv{unit}"
                ours = f"decoder.residuals.{index}.{block}.unit{unit}"
                yield from nested(theirs, ours, _FFC_UNIT)
                yield from nested(f"{theirs}.bn_l", f"{ours}.local_norm", ADAIN)
                yield from nested(f"{theirs}.bn_g", f"{ours}.global_norm", ADAIN)
        yield from nested(f"decoder.up{stage}", f"decoder.ups.{index}", PLAIN_BLOCK)
        yield from nested(f"decoder.jump{stage}", f"decoder.jumps.{index}", PLAIN_BLOCK)
    yield "decoder.final.model.0", "decoder.final.conv"


_FIRST = tuple(f"visual_encoder.{branch}.0.conv" for branch in ("masked", "reference"))

LAYOUT = Layout(
    network="lnet",
    files=("LNet.pth",),
    outer_keys=("state_dict",),
    modules=dict(_modules()),
    leaves=CONV_NORM_ACT_LEAVES | SPECTRAL_LEAVES,
    flip_inputs=tuple(f"{conv}.{leaf}" for conv in _FIRST for leaf in (SPECTRAL_RIGHT, SPECTRAL_WEIGHT)),
    flip_outputs=tuple(
        f"decoder.final.conv.{leaf}" for leaf in (SPECTRAL_WEIGHT, SPECTRAL_LEAVES["weight_u"], "bias")
    ),
    license="Apache-2.0, VideoReTalking release (github.com/OpenTalker/video-retalking)",
)
