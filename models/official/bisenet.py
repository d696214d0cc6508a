"""BiSeNet: released keys -> :class:`models.bisenet.BiSeNet`."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout

# official conv + batch norm unit -> ours (torchvision's Conv2dNormActivation: 0 convolution, 1 norm)
_UNITS = {
    "cp.arm16.conv": "context.attention_16.conv",
    "cp.arm32.conv": "context.attention_32.conv",
    "cp.conv_head16": "context.smooth_16",
    "cp.conv_head32": "context.smooth_32",
    "cp.conv_avg": "context.average",
    "ffm.convblk": "fusion.conv",
    "conv_out.conv": "head.0",
    "conv_out16.conv": "head_16.0",
    "conv_out32.conv": "head_32.0",
}

LAYOUT = Layout(
    network="bisenet",
    files=("parsing_bisenet.pth", "79999_iter.pth"),
    modules={
        "cp.resnet": "context.body",
        **{f"{official}.conv": f"{ours}.0" for official, ours in _UNITS.items()},
        **{f"{official}.bn": f"{ours}.1" for official, ours in _UNITS.items()},
        "cp.arm16.conv_atten": "context.attention_16.attention.0",
        "cp.arm16.bn_atten": "context.attention_16.attention.1",
        "cp.arm32.conv_atten": "context.attention_32.attention.0",
        "cp.arm32.bn_atten": "context.attention_32.attention.1",
        "ffm.conv1": "fusion.squeeze",
        "ffm.conv2": "fusion.excite",
        "conv_out.conv_out": "head.1",
        "conv_out16.conv_out": "head_16.1",
        "conv_out32.conv_out": "head_32.1",
    },
    license="face-parsing.PyTorch: MIT; trained on CelebAMask-HQ, whose license is non-commercial",
)
