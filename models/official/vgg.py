"""Key table of torchvision's VGG-19."""

from __future__ import annotations

from videoretalking.models.official.layout import Layout

# Official indices of the convolutions of each block up to relu5_1.
_CONVOLUTIONS = ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28,))

LAYOUT = Layout(
    network="vgg19",
    files=("vgg19-dcbb9e9d.pth",),
    modules={
        f"features.{index}": f"blocks.{block}.{depth}"
        for block, indices in enumerate(_CONVOLUTIONS)
        for depth, index in enumerate(indices)
    },
    license="VGG-19 of torchvision (BSD-3-Clause), trained on ImageNet",
    unused=("features.30", "features.32", "features.34", "classifier"),
)
