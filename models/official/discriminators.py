"""Key table of Wav2Lip's released visual quality discriminator; E-Net's adversary was not released."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout

_LAYERS = (1, 2, 2, 2, 2, 2, 2)  # convolutions of each official block

LAYOUT = Layout(
    network="wav2lip_discriminator",
    files=("visual_quality_disc.pth",),
    modules={
        **{
            f"face_encoder_blocks.{block}.{layer}.conv_block.0": f"layers.{sum(_LAYERS[:block]) + layer}"
            for block, count in enumerate(_LAYERS)
            for layer in range(count)
        },
        "binary_pred.0": "head",
    },
    license="Wav2Lip (Prajwal et al. 2020, github.com/Rudrabha/Wav2Lip), trained on LRS2: no commercial use",
    outer_keys=("state_dict",),
    flip_inputs=("layers.0.weight",),
)
