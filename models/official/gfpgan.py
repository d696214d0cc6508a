"""GFPGAN v1.3: released keys -> :class:`models.gfpgan.GFPGAN`."""

from __future__ import annotations

from videoretalking.models.gfpgan import GFPGANConfig
from videoretalking.models.official.layout import Layout

_LEVELS = range(len(GFPGANConfig().widths) - 1)

# official style convolution -> ours
_STYLED = {"stylegan_decoder.style_conv1": "decoder.first"}
for _level in _LEVELS:
    _STYLED[f"stylegan_decoder.style_convs.{2 * _level}"] = f"decoder.levels.{_level}.up"
    _STYLED[f"stylegan_decoder.style_convs.{2 * _level + 1}"] = f"decoder.levels.{_level}.conv"
_TO_RGB = {"stylegan_decoder.to_rgb1": "decoder.first_rgb"} | {
    f"stylegan_decoder.to_rgbs.{level}": f"decoder.levels.{level}.to_rgb" for level in _LEVELS
}
_NOISES = {"stylegan_decoder.noises.noise0": "decoder.first_noise"}
for _level in _LEVELS:
    _NOISES[f"stylegan_decoder.noises.noise{2 * _level + 1}"] = f"decoder.levels.{_level}.up_noise"
    _NOISES[f"stylegan_decoder.noises.noise{2 * _level + 2}"] = f"decoder.levels.{_level}.noise"

LAYOUT = Layout(
    network="gfpgan",
    files=("GFPGANv1.3.pth",),
    outer_keys=("params_ema", "params"),
    modules={
        "conv_body_first": "stem",
        "conv_body_down": "downs",
        "final_conv": "neck",
        "final_linear": "to_codes",
        "conv_body_up": "ups",
        "toRGB": "side_heads",
        **{f"condition_scale.{level}": f"decoder.levels.{level}.transform.scale" for level in _LEVELS},
        **{f"condition_shift.{level}": f"decoder.levels.{level}.transform.shift" for level in _LEVELS},
        "stylegan_decoder.constant_input.weight": "decoder.constant",
        **{f"{official}.modulated_conv": f"{ours}.conv" for official, ours in (_STYLED | _TO_RGB).items()},
        **{f"{official}.bias": f"{ours}.bias" for official, ours in (_STYLED | _TO_RGB).items()},
        **{f"{official}.weight": f"{ours}.noise_scale" for official, ours in _STYLED.items()},
        **_NOISES,
    },
    # StyleGAN2's mapping network: the U-Net predicts the codes of the layers directly
    unused=("stylegan_decoder.style_mlp",),
    squeeze=tuple(f"{ours}.conv.weight" for ours in (_STYLED | _TO_RGB).values()),
    license="GFPGAN: Apache-2.0",
)
