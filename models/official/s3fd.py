"""S3FD: released keys -> :class:`models.s3fd.S3FD`."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout
from videoretalking.models.s3fd import S3FDConfig

_LEVELS = ("conv3_3_norm", "conv4_3_norm", "conv5_3_norm", "fc7", "conv6_2", "conv7_2")

LAYOUT = Layout(
    network="s3fd",
    files=("s3fd-619a316812.pth", "s3fd.pth"),
    modules={
        **{
            # every convolution is followed by a ReLU
            f"conv{stage + 1}_{index + 1}": f"stages.{stage}.{2 * index}"
            for stage, depth in enumerate(S3FDConfig().stage_depths)
            for index in range(depth)
        },
        "fc6": "context.0",
        "fc7": "context.2",
        "conv6_1": "extras.0.0",
        "conv6_2": "extras.0.2",
        "conv7_1": "extras.1.0",
        "conv7_2": "extras.1.2",
        **{official: f"norms.{index}" for index, official in enumerate(_LEVELS[:3])},
        **{f"{official}_mbox_conf": f"score_heads.{index}" for index, official in enumerate(_LEVELS)},
        **{f"{official}_mbox_loc": f"box_heads.{index}" for index, official in enumerate(_LEVELS)},
    },
    license="S3FD of face-alignment: BSD-3-Clause; trained on WIDER FACE, research use",
)
