"""Key table of the released lip-sync expert."""

from __future__ import annotations

from videoretalking.models.official.blocks import CONV_NORM_ACT_LEAVES, numbered
from videoretalking.models.official.layout import Layout

LAYOUT = Layout(
    network="lipsync_expert",
    files=("lipsync_expert.pth",),
    modules={
        **numbered("audio_encoder", "audio_encoder.layers", range(14)),
        **numbered("face_encoder", "face_encoder", range(17)),
    },
    license="Wav2Lip (Prajwal et al. 2020, github.com/Rudrabha/Wav2Lip), trained on LRS2: no commercial use",
    outer_keys=("state_dict",),
    leaves=CONV_NORM_ACT_LEAVES,
    flip_inputs=("face_encoder.0.conv.weight",),
)
