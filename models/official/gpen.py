"""GPEN-BFR-512: released keys -> :class:`models.gpen.GPEN`."""

from __future__ import annotations

from videoretalking.models.gpen import GPENConfig, blur_kernel
from videoretalking.models.official.layout import Layout

_LEVELS = range(len(GPENConfig().widths) - 1)

# official styled convolution -> ours
_STYLED = {"generator.conv1": "first"}
for _level in _LEVELS:
    _STYLED[f"generator.convs.{2 * _level}"] = f"levels.{_level}.up"
    _STYLED[f"generator.convs.{2 * _level + 1}"] = f"levels.{_level}.conv"
_TO_RGB = {"generator.to_rgb1": "first_rgb"} | {
    f"generator.to_rgbs.{level}": f"levels.{level}.to_rgb" for level in _LEVELS
}

LAYOUT = Layout(
    network="gpen",
    files=("GPEN-BFR-512.pth",),
    modules={
        "ecd0.0.0": "stem",
        "ecd0.0.1": "stem",
        **{f"ecd{level + 1}.0.1": f"downs.{level}.conv" for level in _LEVELS},
        **{f"ecd{level + 1}.0.2": f"downs.{level}.conv" for level in _LEVELS},
        "final_linear.0": "to_latent",
        **{
            # layer 0 of the release normalizes the code and has no weights
            f"generator.style.{layer + 1}": f"mapping.{layer}"
            for layer in range(GPENConfig().num_mapping_layers)
        },
        "generator.input.input": "constant",
        **{f"{official}.conv": f"{ours}.conv" for official, ours in (_STYLED | _TO_RGB).items()},
        **{f"{official}.noise.weight": f"{ours}.encoder_scale" for official, ours in _STYLED.items()},
        **{f"{official}.activate.bias": f"{ours}.bias" for official, ours in _STYLED.items()},
        **{f"{official}.bias": f"{ours}.bias" for official, ours in _TO_RGB.items()},
    },
    constants={
        **{f"ecd{level + 1}.0.0.kernel": blur_kernel() for level in _LEVELS},
        **{f"generator.convs.{2 * level}.conv.blur.kernel": blur_kernel(4.0) for level in _LEVELS},
        **{f"generator.to_rgbs.{level}.upsample.kernel": blur_kernel(4.0) for level in _LEVELS},
    },
    squeeze=tuple(f"{ours}.conv.weight" for ours in (_STYLED | _TO_RGB).values()),
    license="GPEN: Alibaba, academic and non-commercial use only",
)
