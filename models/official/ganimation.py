"""GANimation: released keys -> :class:`models.ganimation.GANimation`."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout

_NORMED = {
    "model.0": "stem",
    "model.3": "downs.0",
    "model.6": "downs.1",
    **{f"model.{9 + index}.conv_block.0": f"blocks.{index}.conv1" for index in range(6)},
    **{f"model.{9 + index}.conv_block.3": f"blocks.{index}.conv2" for index in range(6)},
    "model.15": "ups.0",
    "model.18": "ups.1",
}

LAYOUT = Layout(
    network="ganimation",
    files=("30_net_gen.pth",),
    modules={**_NORMED, "color_top.0": "color_head", "au_top.0": "attention_head"},
    # an instance norm without parameters follows and removes every constant
    unused=tuple(f"{official}.bias" for official in _NORMED),
    license="ganimation_replicate, CelebA: no license stated",
)
