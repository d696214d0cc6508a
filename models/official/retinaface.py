"""RetinaFace with ResNet-50: released keys -> :class:`models.retinaface.RetinaFace`."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout
from videoretalking.models.retinaface import STRIDES

_CONTEXT = {
    "conv3X3": "branch_3x3",
    "conv5X5_1": "shared",
    "conv5X5_2": "branch_5x5",
    "conv7X7_2": "branch_7x7.0",
    "conv7x7_3": "branch_7x7.1",
}
_HEADS = {"ClassHead": "score_heads", "BboxHead": "box_heads", "LandmarkHead": "landmark_heads"}
_LEVELS = range(len(STRIDES))

LAYOUT = Layout(
    network="retinaface",
    files=("RetinaFace-R50.pth", "detection_Resnet50_Final.pth"),
    modules={
        "body": "body",
        **{f"fpn.output{level + 1}": f"pyramid.laterals.{level}" for level in _LEVELS},
        **{f"fpn.merge{level + 1}": f"pyramid.merges.{level}" for level in _LEVELS[:-1]},
        **{
            f"ssh{level + 1}.{official}": f"contexts.{level}.{ours}"
            for level in _LEVELS
            for official, ours in _CONTEXT.items()
        },
        **{
            f"{official}.{level}.conv1x1": f"{ours}.{level}"
            for level in _LEVELS
            for official, ours in _HEADS.items()
        },
    },
    flip_inputs=("body.conv1.weight",),
    license="Pytorch_Retinaface: MIT; trained on WIDER FACE, research use",
)
