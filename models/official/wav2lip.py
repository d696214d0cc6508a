"""Key table of the released Wav2Lip generators."""

from __future__ import annotations

from videoretalking.models.official.blocks import CONV_NORM_ACT_LEAVES, numbered
from videoretalking.models.official.layout import Layout

_ENCODER_LAYERS = (1, 3, 4, 3, 3, 2, 2)  # convolutions of each face encoder block
_DECODER_LAYERS = (1, 2, 3, 3, 3, 3, 3)

_MODULES = {
    **numbered("audio_encoder", "audio_encoder.layers", range(13)),
    "output_block.0": "head",
    "output_block.1": "to_rgb",
}
for _block, _count in enumerate(_ENCODER_LAYERS):
    _MODULES |= numbered(f"face_encoder_blocks.{_block}", f"face_encoder.{_block}", range(_count))
for _block, _count in enumerate(_DECODER_LAYERS):
    _MODULES |= numbered(f"face_decoder_blocks.{_block}", f"face_decoder.{_block}", range(_count))

LAYOUT = Layout(
    network="wav2lip",
    files=("wav2lip_gan.pth", "wav2lip.pth"),
    modules=_MODULES,
    license="Wav2Lip (Prajwal et al. 2020, github.com/Rudrabha/Wav2Lip), trained on LRS2: no commercial use",
    outer_keys=("state_dict",),
    leaves=CONV_NORM_ACT_LEAVES,
    flip_inputs=("face_encoder.0.0.conv.weight",),
    flip_outputs=("to_rgb.weight", "to_rgb.bias"),
)
