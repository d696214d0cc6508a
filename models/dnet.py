"""D-Net, the semantic-guided reenactment network (paper, section 3.1 and appendix C.1).

It re-renders a frame with the expression of a coefficient window, which the pipeline sets to one
neutral template so that the old lips cannot leak. The structure is that of PIRenderer (Ren et al. 2021):
a mapping network turns coefficients into a motion descriptor, a warping network predicts a flow at a
quarter of the size, an editing network repairs the warped frame. Defaults are the sizes of the released
network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.coefficients import NUM_MOTION, OFFICIAL_WINDOW
from videoretalking.models.layers.adain import AdaIN
from videoretalking.models.layers.blocks import ChannelLayerNorm, from_signed, resize, to_signed
from videoretalking.models.layers.editing_blocks import NEGATIVE_SLOPE, FinalConv, PlainBlock

_CONSTANT = 1e-5  # standard deviation of a coefficient that does not change


@dataclass(frozen=True)
class DNetConfig:
    """Sizes of D-Net.

    Attributes:
        motion_size: numbers per frame of the coefficient window.
        descriptor_size: length of the motion descriptor z.
        adain_hidden: width of the perceptron inside every AdaIN.
        mapping_layers: dilated convolutions after the first one; three make the paper's four.
        warp_channels: channels at full size in the warping network; they double up to ``warp_max_channels``.
        warp_max_channels: upper limit of the doubling.
        warp_down: down-samplings (paper: five).
        warp_up: up-samplings (paper: three, so that the flow has a quarter of the size).
        edit_channels: channels at full size in the editing network.
        edit_max_channels: upper limit of the doubling.
        edit_stages: stages of the editing network (paper: three).
        edit_residual: residual blocks per stage.
        two_layer_residual: residual blocks with two convolutions and an activation between them. The released
            network computes the first one and discards it, so its blocks have one convolution and none.
        spectral: spectral norm on the editing network's convolutions (paper: yes, released: no).
        window: frames of the coefficient window, in training and in use: 27 in the paper's training, 26 as the
            released inference feeds it. The mapping network averages over time, so weights fit any.
        standardize: center and scale the coefficients by statistics that the checkpoint carries. Expressions are
            near one, crop positions near a hundred pixels: where steps are few, raw numbers (paper, released)
            teach the position alone.
    """

    motion_size: int = NUM_MOTION
    window: int = OFFICIAL_WINDOW
    descriptor_size: int = 256
    adain_hidden: int = 128
    mapping_layers: int = 3
    warp_channels: int = 32
    warp_max_channels: int = 256
    warp_down: int = 5
    warp_up: int = 3
    edit_channels: int = 64
    edit_max_channels: int = 256
    edit_stages: int = 3
    edit_residual: int = 2
    # Differs from paper: where the release departs from section C.1.1, it is the default and the paper an option.
    two_layer_residual: bool = False
    spectral: bool = False
    standardize: bool = False


class DNetOutput(NamedTuple):
    """What D-Net renders.

    Attributes:
        flow: [B, 2, H/4, W/4] displacement (dx, dy) in pixels of the flow grid, float32.
        warped: [B, 3, H, W] the input warped by the flow, [0, 1]; outside the frame it is mid-gray.
        image: [B, 3, H, W] the edited image, [0, 1]; equals ``warped`` when only warping was asked for.
    """

    flow: torch.Tensor
    warped: torch.Tensor
    image: torch.Tensor


class DNet(nn.Module):
    """Mapping, warping and editing network.

    Args:
        config: sizes.
    """

    def __init__(self, config: DNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or DNetConfig()
        self.mapping = MappingNet(self.config)
        self.warping = WarpingNet(self.config)
        self.editing = EditingNet(self.config)

    def forward(self, image: torch.Tensor, coefficients: torch.Tensor, warp_only: bool = False) -> DNetOutput:
        """Render ``image`` with the motion of ``coefficients``.

        Args:
            image: [B, 3, 256, 256] RGB in [0, 1].
            coefficients: [B, 73, T], T = 27 in training, 26 in the published inference (at least 25).
            warp_only: skip the editing network (first training stage, appendix C.1.3).

        Returns:
            Flow, warped image and edited image.
        """
        signed = to_signed(image)
        descriptor = self.mapping(coefficients)
        flow = self.warping(signed, descriptor)
        warped = warp(signed, flow)
        edited = warped if warp_only else self.editing(signed, warped, descriptor)
        return DNetOutput(flow, from_signed(warped), from_signed(edited))


class MappingNet(nn.Module):
    """Coefficient window -> motion descriptor: 1-D convolutions without padding, then the mean over time.

    Args:
        config: sizes.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: DNetConfig) -> None:
        super().__init__()
        size = config.descriptor_size
        self.first = nn.Conv1d(config.motion_size, size, 7)
        self.layers = nn.ModuleList(
            nn.Conv1d(size, size, 3, dilation=3) for _ in range(config.mapping_layers)
        )
        self.standardize = config.standardize
        if self.standardize:
            self.register_buffer("center", torch.zeros(config.motion_size, 1))
            self.register_buffer("scale", torch.ones(config.motion_size, 1))

    def set_statistics(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Keep the statistics of the training coefficients, for a network that standardizes.

        Args:
            mean: [73].
            deviation: [73] >= 0; coefficients that never change are not scaled.
        """
        self.center.copy_(mean[:, None])
        self.scale.copy_(torch.where(deviation > _CONSTANT, deviation, 1.0)[:, None])

    def forward(self, coefficients: torch.Tensor) -> torch.Tensor:
        """[B, 73, T] -> [B, descriptor_size]; float32 because everything below hangs on it."""
        with torch.autocast(coefficients.device.type, enabled=False):
            coefficients = coefficients.float()
            if self.standardize:
                coefficients = (coefficients - self.center) / self.scale
            features = self.first(coefficients)
            for layer in self.layers:
                features = layer(F.leaky_relu(features, NEGATIVE_SLOPE)) + features[:, :, 3:-3]
            return features.mean(dim=2)


class WarpingNet(nn.Module):
    """Image and descriptor -> flow at a quarter of the size: an hourglass with AdaIN before each convolution.

    Args:
        config: sizes.
    """

    def __init__(self, config: DNetConfig) -> None:
        super().__init__()
        condition, hidden = config.descriptor_size, config.adain_hidden
        widths = [
            min(config.warp_channels * 2**level, config.warp_max_channels)
            for level in range(config.warp_down + 1)
        ]
        self.first = nn.Conv2d(3, widths[0], 7, padding=3)
        self.encoder = nn.ModuleList(
            WarpDown(widths[level], widths[level + 1], condition, hidden) for level in range(config.warp_down)
        )
        decoder = []
        channels = widths[-1]
        for level in range(config.warp_down - 1, config.warp_down - 1 - config.warp_up, -1):
            decoder.append(WarpUp(channels, widths[level], condition, hidden))
            channels = 2 * widths[level]  # the encoder map of the same size is concatenated
        self.decoder = nn.ModuleList(decoder)
        self.flow_norm = ChannelLayerNorm(channels)
        self.flow_conv = nn.Conv2d(channels, 2, 7, padding=3)

    def forward(self, image: torch.Tensor, descriptor: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] in [-1, 1] and [B, descriptor_size] -> flow [B, 2, H/4, W/4] float32, in pixels."""
        features = self.first(image)
        skips = []
        for down in self.encoder:
            features = down(features, descriptor)
            skips.append(features)
        skips.pop()
        for up in self.decoder:
            features = torch.cat([up(features, descriptor), skips.pop()], dim=1)
        # one grid step of the flow moves four pixels, so bfloat16's three digits would show as jitter
        with torch.autocast(image.device.type, enabled=False):
            return self.flow_conv(F.leaky_relu(self.flow_norm(features.float()), NEGATIVE_SLOPE))


class WarpDown(nn.Module):
    """AdaIN, leaky ReLU, conv 4x4 stride 2; AdaIN, leaky ReLU, conv 3x3.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        condition_size: length of the descriptor.
        hidden_size: width of the AdaIN perceptron.
    """

    def __init__(self, in_channels: int, out_channels: int, condition_size: int, hidden_size: int) -> None:
        super().__init__()
        self.norm1 = AdaIN(in_channels, condition_size, hidden_size)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.norm2 = AdaIN(out_channels, condition_size, hidden_size)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, features: torch.Tensor, descriptor: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H/2, W/2]."""
        features = self.conv1(_activate(self.norm1(features, descriptor)))
        out: torch.Tensor = self.conv2(_activate(self.norm2(features, descriptor)))
        return out


class WarpUp(nn.Module):
    """Main path conv 3x3 and transposed conv 3x3 stride 2, shortcut transposed conv, AdaIN before each.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        condition_size: length of the descriptor.
        hidden_size: width of the AdaIN perceptron.
    """

    def __init__(self, in_channels: int, out_channels: int, condition_size: int, hidden_size: int) -> None:
        super().__init__()
        self.norm1 = AdaIN(in_channels, condition_size, hidden_size)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = AdaIN(out_channels, condition_size, hidden_size)
        self.conv2 = _double_size(out_channels, out_channels)
        self.norm_skip = AdaIN(in_channels, condition_size, hidden_size)
        self.conv_skip = _double_size(in_channels, out_channels)

    def forward(self, features: torch.Tensor, descriptor: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, 2H, 2W]."""
        main = self.conv1(_activate(self.norm1(features, descriptor)))
        main = self.conv2(_activate(self.norm2(main, descriptor)))
        skip = self.conv_skip(_activate(self.norm_skip(features, descriptor)))
        out: torch.Tensor = skip + main
        return out


class EditingNet(nn.Module):
    """Source and warped image -> edited image: encoder with average pooling, AdaIN residual decoder, skips.

    Args:
        config: sizes.
    """

    def __init__(self, config: DNetConfig) -> None:
        super().__init__()
        condition, hidden = config.descriptor_size, config.adain_hidden
        spectral = config.spectral
        widths = [
            min(config.edit_channels * 2**level, config.edit_max_channels)
            for level in range(config.edit_stages + 1)
        ]
        self.first = PlainBlock(6, widths[0], kernel_size=7, spectral=spectral)
        self.downs = nn.ModuleList(
            PlainBlock(widths[level], widths[level + 1], resample="down", spectral=spectral)
            for level in range(config.edit_stages)
        )
        # the decoder's lists run from the coarsest stage to the finest
        stages = list(reversed(range(config.edit_stages)))
        self.residuals = nn.ModuleList(
            nn.ModuleList(
                EditResBlock(widths[level + 1], condition, hidden, config.two_layer_residual)
                for _ in range(config.edit_residual)
            )
            for level in stages
        )
        self.ups = nn.ModuleList(
            PlainBlock(widths[level + 1], widths[level], resample="up", spectral=spectral) for level in stages
        )
        self.jumps = nn.ModuleList(
            PlainBlock(widths[level], widths[level], spectral=spectral) for level in stages
        )
        self.final = FinalConv(widths[0], spectral=spectral)

    def forward(self, image: torch.Tensor, warped: torch.Tensor, descriptor: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] twice in [-1, 1] and [B, descriptor_size] -> [B, 3, H, W] in [-1, 1]."""
        features = self.first(torch.cat([image, warped], dim=1))
        skips = [features]
        for down in self.downs:
            features = down(features)
            skips.append(features)
        skips.pop()
        for residuals, up, jump in zip(self.residuals, self.ups, self.jumps, strict=True):
            for residual in residuals:  # type: ignore[attr-defined]
                features = residual(features, descriptor)
            features = up(features) + jump(skips.pop())
        return torch.tanh(self.final(features).float())


class EditResBlock(nn.Module):
    """Residual block of the editing network.

    Args:
        num_channels: channels of the map.
        condition_size: length of the descriptor.
        hidden_size: width of the AdaIN perceptron.
        two_layer: put conv, AdaIN and leaky ReLU before the released block's conv and AdaIN.
    """

    def __init__(self, num_channels: int, condition_size: int, hidden_size: int, two_layer: bool) -> None:
        super().__init__()
        self.two_layer = two_layer
        if two_layer:
            self.conv1 = nn.Conv2d(num_channels, num_channels, 3, padding=1)
            self.norm1 = AdaIN(num_channels, condition_size, hidden_size)
        self.conv2 = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.norm2 = AdaIN(num_channels, condition_size, hidden_size)

    def forward(self, features: torch.Tensor, descriptor: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        out = features
        if self.two_layer:
            out = _activate(self.norm1(self.conv1(out), descriptor))
        return features + self.norm2(self.conv2(out), descriptor)


def warp(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Sample ``image`` at the places that ``flow`` points to, in float32.

    The identity grid has corner-aligned coordinates while the sampling has not, as in the released
    network, so zero flow does not reproduce the image exactly.

    Args:
        image: [B, 3, H, W] in [-1, 1].
        flow: [B, 2, h, w], (dx, dy) in pixels of its own grid.

    Returns:
        [B, 3, H, W] in [-1, 1]; 0 outside the image.
    """
    with torch.autocast(image.device.type, enabled=False):
        grid = sampling_grid(flow, (image.shape[-2], image.shape[-1]))
        return F.grid_sample(
            image.float(),
            grid.permute(0, 2, 3, 1),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )


def sampling_grid(flow: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The places that ``flow`` points to.

    Args:
        flow: [B, 2, h, w], (dx, dy) in pixels of its own grid.
        size: height H and width W of the image.

    Returns:
        [B, 2, H, W] float32, (x, y) for each pixel of the output; -1 to 1 is the image from border to border.
    """
    flow = flow.float()
    height, width = flow.shape[-2:]
    rows = torch.linspace(-1.0, 1.0, height, device=flow.device)
    columns = torch.linspace(-1.0, 1.0, width, device=flow.device)
    identity = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))  # [2, h, w] as (x, y)
    extent = torch.tensor([width - 1, height - 1], device=flow.device, dtype=flow.dtype).view(1, 2, 1, 1)
    return resize(identity + 2.0 * flow / extent, size)


def _activate(features: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(features, NEGATIVE_SLOPE, inplace=True)


def _double_size(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
