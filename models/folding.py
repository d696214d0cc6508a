"""Networks that compute the same with less work on a CPU, for inference.

Batch norms go into the convolutions before them. 1x1 convolutions run in oneDNN, which PyTorch leaves on one
thread. A convolution after a doubling of the map doubles it itself. And convolutions with large kernels and few
output channels, which fill a fifth of a processor's registers, see several neighboring pixels as channels of one.
"""

from __future__ import annotations

from typing import TypeGuard, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import Conv2dNormActivation

from videoretalking.models.dnet import MotionBlock
from videoretalking.models.enet import ENet
from videoretalking.models.layers.blocks import ConvNormAct
from videoretalking.models.layers.doubling import RepeatingConv2d
from videoretalking.models.layers.editing_blocks import PlainBlock
from videoretalking.models.layers.ffc import FourierUnit, ProductFourierUnit, SpectralTransform
from videoretalking.models.layers.resnet import ResNetBody
from videoretalking.models.layers.style import ModulatedConv, StyleConv
from videoretalking.models.parsenet import ReflectConv

# Attributes of a convolution and of the batch norm that nothing stands between.
_PAIRS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    ConvNormAct: (("conv", "norm"),),
    PlainBlock: (("conv", "norm"),),
    ReflectConv: (("conv", "norm"),),
    SpectralTransform: (("squeeze", "norm"),),
    FourierUnit: (("conv", "norm"),),
    Conv2dNormActivation: (("0", "1"),),
    nn.Sequential: (("0", "1"),),
    ResNetBody: (("conv1", "bn1"),),
    BasicBlock: (("conv1", "bn1"), ("conv2", "bn2")),
    Bottleneck: (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
}
_COLUMNS = 4  # pixels that become channels of one
_FEW, _LARGE = 4, 5  # output channels at most, and side of the kernel at least, where that pays


def fold_for_cpu(network: nn.Module) -> None:
    """Rewrite a network in place; its outputs stay equal but for the order of sums.

    Args:
        network: in eval mode, for inference only from here on; its state has other keys and shapes then.
    """
    for module in list(network.modules()):
        for conv, norm in _PAIRS.get(type(module), ()):
            _fold_norm(module, conv, norm)
        _fold_doubling(module)
        if isinstance(module, ModulatedConv):
            module.freeze()
    for module in list(network.modules()):
        if isinstance(module, SpectralTransform) and isinstance(module.fourier.norm, nn.Identity):
            module.add_module("fourier", ProductFourierUnit(module.fourier))
    for owner in list(network.modules()):
        for name, child in list(owner.named_children()):
            if type(child) is not nn.Conv2d or not _is_plain(child):
                continue
            if child.kernel_size == (1, 1) and child.stride == (1, 1):
                setattr(owner, name, PointwiseConv2d(child))
            elif child.out_channels <= _FEW and min(child.kernel_size) >= _LARGE and _keeps_size(child):
                setattr(owner, name, FewChannelConv2d(child))


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution that always runs in oneDNN.

    Args:
        conv: stride 1, one group.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 1, bias=False, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H, W]."""
        wants_gradient = torch.is_grad_enabled() and (features.requires_grad or self.weight.requires_grad)
        if features.dtype != torch.float32 or wants_gradient or torch.is_autocast_enabled("cpu"):
            return super().forward(features)
        features = features.contiguous(memory_format=torch.channels_last)
        out: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            features, self.weight, self.bias, (0, 0), (1, 1), (1, 1), 1, "none", [], ""
        )
        return out


class FewChannelConv2d(nn.Module):
    """A convolution with few outputs, computed for several neighboring pixels at once.

    In a channels-last map four neighbors of one channel are the same memory as one pixel of four channels. So the
    outputs of four pixels come from one convolution with four times the channels on both sides, a kernel of three
    such columns, and zeros where a pixel does not see another.

    Args:
        conv: stride 1, zero padding that keeps the size, kernel of at most nine columns.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        rows, taps = conv.kernel_size
        reach = taps // 2
        self.outputs = conv.out_channels
        weight = conv.weight.new_zeros(_COLUMNS, self.outputs, 3 * _COLUMNS, conv.in_channels, rows)
        for pixel in range(_COLUMNS):
            first = _COLUMNS + pixel - reach
            kernel = conv.weight.detach().permute(3, 0, 1, 2)  # [taps, out, in, rows]
            weight[pixel, :, first : first + taps] = kernel.transpose(0, 1)
        inputs = _COLUMNS * conv.in_channels
        weight = weight.unflatten(2, (3, _COLUMNS))  # [pixel, out, column, pixel of it, in, rows]
        weight = weight.permute(0, 1, 3, 4, 5, 2).reshape(_COLUMNS * self.outputs, inputs, rows, 3)
        # the original serves maps whose width is no multiple
        self.narrow = [conv]
        self.wide = nn.Conv2d(
            inputs, _COLUMNS * self.outputs, (rows, 3), padding=(rows // 2, 1), bias=conv.bias is not None
        )
        self.wide.weight = nn.Parameter(
            weight.contiguous(memory_format=torch.channels_last), requires_grad=conv.weight.requires_grad
        )
        if conv.bias is not None:
            self.wide.bias = nn.Parameter(
                conv.bias.detach().repeat(_COLUMNS), requires_grad=conv.bias.requires_grad
            )
        self.train(conv.training)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H, W], channels last."""
        batch, channels, height, width = features.shape
        if width % _COLUMNS:
            return cast(torch.Tensor, self.narrow[0](features))
        rows = features.permute(0, 2, 3, 1).contiguous()
        columns = rows.view(batch, height, width // _COLUMNS, _COLUMNS * channels).permute(0, 3, 1, 2)
        out = self.wide(columns).permute(0, 2, 3, 1).contiguous()
        return out.view(batch, height, width, self.outputs).permute(0, 3, 1, 2)


def _fold_norm(module: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
    if type(conv) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and _is_plain(conv) and not norm.training:
        setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
        setattr(module, norm_name, nn.Identity())


def _fold_doubling(module: nn.Module) -> None:
    """Let a block that doubles its map before a convolution do both in one."""
    if isinstance(module, ENet):  # which cuts the border off
        for layer in module.style_convs:
            cast(StyleConv, layer).conv.merge_doubling()
    if (
        isinstance(module, PlainBlock | MotionBlock)
        and module.resample == "up"
        and _is_repeatable(module.conv)
    ):
        module.add_module("conv", RepeatingConv2d(module.conv, only_normed="conv" in module.normed))
        module.resample = "none"
    if isinstance(module, ReflectConv) and module.upsample and _is_repeatable(module.conv):
        module.add_module("conv", RepeatingConv2d(module.conv))
        module.upsample = False


def _is_repeatable(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    if type(conv) is not nn.Conv2d or not _is_plain(conv) or conv.padding_mode not in ("zeros", "reflect"):
        return False
    return conv.kernel_size == (3, 3) and conv.stride == conv.dilation == conv.padding == (1, 1)


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether weights lie as they are, and none are shared or hidden behind a parametrization."""
    return (
        conv.groups == 1 and isinstance(conv.weight, nn.Parameter) and not hasattr(conv, "parametrizations")
    )


def _keeps_size(conv: nn.Conv2d) -> bool:
    same = tuple(side // 2 for side in conv.kernel_size)
    odd = all(side % 2 for side in conv.kernel_size) and conv.kernel_size[1] // 2 <= _COLUMNS
    plain = conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    return odd and plain and conv.padding == same
