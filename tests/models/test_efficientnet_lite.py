from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from videoretalking.models.efficientnet_lite import ConvNorm, EfficientNetLite0, EfficientNetLite0Config
from videoretalking.models.official.efficientnet_lite import FOLDER, LAYOUT, PACKAGE
from videoretalking.models.official.layout import rename, unwrap
from videoretalking.train.frozen import load_packaged

TINY = EfficientNetLite0Config(width_multiplier=0.125)


def test_shapes_ranges_and_gradients() -> None:
    network = EfficientNetLite0(TINY)
    image = torch.rand(2, 3, 96, 96, requires_grad=True)
    taps = network(image)
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (4, 48, 48), (12, 24, 24), (18, 12, 12), (30, 6, 6), (84, 3, 3),
    ]  # fmt: skip
    assert all(tap.min() >= 0.0 and tap.max() <= 6.0 for tap in taps)
    torch.stack([tap.sum() for tap in taps]).sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("size", "kernel_size"), [(8, 3), (7, 3), (8, 5)])
def test_padding_is_that_of_tensorflow(size: int, kernel_size: int) -> None:
    """With an even size the first window starts at the first pixel or one before it, never two."""
    layer = ConvNorm(1, 1, kernel_size, stride=2)
    nn.init.zeros_(layer.conv.weight)
    layer.conv.weight.data[0, 0, 0, 0] = 1.0  # shows the upper left corner of each window
    row = torch.arange(1.0, size + 1).expand(1, 1, size, size)
    shown = layer.eval()(row)[0, 0, -1] * (1.0 + 1e-3) ** 0.5
    before = (max((-(-size // 2) - 1) * 2 + kernel_size - size, 0)) // 2
    expected = [float(max(2 * index - before + 1, 0)) for index in range(-(-size // 2))]
    assert [round(value, 3) for value in shown.tolist()] == expected


def released() -> dict[str, torch.Tensor]:
    """Random tensors under the names of the package's file, written out from the structure that it has."""
    stages = (
        (16, 1, 3, 1),
        (24, 6, 3, 2),
        (40, 6, 5, 2),
        (80, 6, 3, 3),
        (112, 6, 5, 3),
        (192, 6, 5, 4),
        (320, 6, 3, 1),
    )
    state: dict[str, torch.Tensor] = {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}

    def add(conv: str, norm: str, *shape: int) -> None:
        state[f"{conv}.weight"] = torch.randn(shape)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{leaf}"] = torch.rand(shape[0])
        state[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    add("_conv_stem", "_bn0", 32, 3, 3, 3)
    channels, index = 32, 0
    for width, expansion, size, depth in stages:
        for _ in range(depth):
            name, hidden = f"_blocks.{index}", channels * expansion
            if expansion > 1:
                add(f"{name}._expand_conv", f"{name}._bn0", hidden, channels, 1, 1)
            add(f"{name}._depthwise_conv", f"{name}._bn1", hidden, 1, size, size)
            add(f"{name}._project_conv", f"{name}._bn2", width, hidden, 1, 1)
            channels, index = width, index + 1
    add("_conv_head", "_bn1", 1280, 320, 1, 1)
    return state


def test_the_table_fits_the_released_structure() -> None:
    network, state = EfficientNetLite0(), released()
    assert len(state) == 296
    network.load_state_dict(rename(unwrap(state, LAYOUT, "file"), LAYOUT, network.state_dict(), "file"))
    assert torch.equal(network.blocks[11].filter.conv.weight, state["_blocks.11._depthwise_conv.weight"])


@pytest.mark.skipif(
    find_spec(PACKAGE.replace("-", "_")) is None, reason=f"{PACKAGE} (extra train-demo) is not installed"
)
def test_the_packages_weights_load_and_see_blur() -> None:
    network = load_packaged(LAYOUT, PACKAGE, FOLDER)
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    sharp, soft = network(image), network(nn.functional.avg_pool2d(image, 3, 1, 1))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all((a - b).abs().mean() > 0.01 * a.abs().mean() > 0 for a, b in zip(sharp, soft, strict=True))
