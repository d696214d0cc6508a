"""ParseNet: released keys -> :class:`models.parsenet.ParseNet`."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout
from videoretalking.models.parsenet import ParseNetConfig

_HALVINGS = len(ParseNetConfig().widths) - 1
_BLOCKS = {
    **{f"encoder.{index + 1}": f"encoder.{index}" for index in range(_HALVINGS)},
    **{f"body.{index}": f"body.{index}" for index in range(ParseNetConfig().num_body_blocks)},
    **{f"decoder.{index}": f"decoder.{index}" for index in range(_HALVINGS)},
}
_CONVS = {
    "encoder.0": "stem",
    **{
        f"{official}.{conv}": f"{ours}.{name}"
        for official, ours in _BLOCKS.items()
        for conv, name in (("conv1", "conv1"), ("conv2", "conv2"), ("shortcut_func", "shortcut"))
    },
    "out_mask_conv": "mask_head",
    "out_img_conv": "image_head",
}

LAYOUT = Layout(
    network="parsenet",
    files=("ParseNet-latest.pth", "parsing_parsenet.pth"),
    modules={
        **{f"{official}.conv2d": f"{ours}.conv" for official, ours in _CONVS.items()},
        **{f"{official}.norm.norm": f"{ours}.norm" for official, ours in _CONVS.items()},
    },
    license="ParseNet of PSFRGAN, shipped with GPEN: CC BY-NC-SA 4.0, non-commercial",
)
