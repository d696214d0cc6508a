"""D-Net, the semantic-guided reenactment network (paper, section 3.1 and appendix C.1).

It re-renders a frame with the expression of a coefficient window, which the pipeline sets to one
neutral template so that the old lips cannot leak. The structure is that of PIRenderer (Ren et al. 2021):
a mapping network turns coefficients into a motion descriptor, a warping network predicts a flow at a
quarter of the size, an editing network repairs the warped frame. Defaults are the sizes of the released
network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.coefficients import NUM_MOTION, OFFICIAL_WINDOW
from videoretalking.models.layers.adain import AdaIN
from videoretalking.models.layers.blocks import (
    ChannelLayerNorm,
    from_signed,
    maybe_spectral_norm,
    resize,
    to_signed,
)
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
        spectral_warping: spectral norm on the up- and down-sampling layers of the warping network (paper: yes,
            released: no).
        adain_after: AdaIN after each convolution, as section C.1.1 has it: in the warping network behind the
            convolutions, in the editing network in every block. The released network has it before the
            convolutions of the warping network and, in the editing network, in the residual blocks alone.
        window: frames of the coefficient window, in training and in use: 27 in the paper's training, 26 as the
            released inference feeds it. The mapping network averages over time, so weights fit any.
        standardize: center and scale the coefficients by statistics that the checkpoint carries. Expressions are
            near one, crop positions near a hundred pixels: where steps are few, raw numbers (paper, released)
            teach the position alone.
        overshoot: how far beyond a template's expression the coefficients go in use, in parts of the way from the
            frame's own expression to it; 0 stops at the template (paper, released). A D-Net that had little data
            goes only part of the way that it is told.
        from_rest: in use, warp the frame with the mouth of a near one in which it rests, instead of the frame as it
            is (paper, released), for the same reason.
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
    spectral_warping: bool = False
    adain_after: bool = False
    standardize: bool = False
    overshoot: float = 0.0
    from_rest: bool = False


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
    """Image and descriptor -> flow at a quarter of the size: an hourglass with AdaIN around each convolution.

    Args:
        config: sizes.
    """

    def __init__(self, config: DNetConfig) -> None:
        super().__init__()
        widths = [
            min(config.warp_channels * 2**level, config.warp_max_channels)
            for level in range(config.warp_down + 1)
        ]
        self.first = nn.Conv2d(3, widths[0], 7, padding=3)
        self.encoder = nn.ModuleList(
            WarpDown(widths[level], widths[level + 1], config) for level in range(config.warp_down)
        )
        decoder = []
        channels = widths[-1]
        for level in range(config.warp_down - 1, config.warp_down - 1 - config.warp_up, -1):
            decoder.append(WarpUp(channels, widths[level], config))
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
            return self.flow_conv(self.flow_norm(features.float(), NEGATIVE_SLOPE))


class WarpDown(nn.Module):
    """AdaIN, leaky ReLU, conv 4x4 stride 2; AdaIN, leaky ReLU, conv 3x3; AdaIN may stand behind the convolutions.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        config: sizes and places of the norms.
    """

    def __init__(self, in_channels: int, out_channels: int, config: DNetConfig) -> None:
        super().__init__()
        self.after = config.adain_after
        self.norm1 = _adain(out_channels if self.after else in_channels, config)
        self.conv1 = _warp_conv(nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1), config)
        self.norm2 = _adain(out_channels, config)
        self.conv2 = _warp_conv(nn.Conv2d(out_channels, out_channels, 3, padding=1), config)
        self.normed = ("conv1", "conv2") if self.after else ("conv1",)

    def forward(self, features: torch.Tensor, descriptor: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H/2, W/2]."""
        if self.after:
            features = self.norm1(self.conv1(features), descriptor, NEGATIVE_SLOPE, True, reader=self.conv2)
            return self.norm2(self.conv2(features), descriptor, NEGATIVE_SLOPE, inplace=True)
        features = self.conv1(self.norm1(features, descriptor, NEGATIVE_SLOPE, reader=self.conv1))
        features = self.norm2(features, descriptor, NEGATIVE_SLOPE, inplace=True, reader=self.conv2)
        return self.conv2(features)


class WarpUp(nn.Module):
    """Main path conv 3x3 and transposed conv 3x3 stride 2, shortcut transposed conv, AdaIN before or after each.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        config: sizes and places of the norms.
    """

    def __init__(self, in_channels: int, out_channels: int, config: DNetConfig) -> None:
        super().__init__()
        self.after = config.adain_after
        first = out_channels if self.after else in_channels
        self.norm1 = _adain(first, config)
        self.conv1 = _warp_conv(nn.Conv2d(in_channels, out_channels, 3, padding=1), config)
        self.norm2 = _adain(out_channels, config)
        self.conv2 = _warp_conv(_double_size(out_channels, out_channels), config)
        self.norm_skip = _adain(first, config)
        self.conv_skip = _warp_conv(_double_size(in_channels, out_channels), config)
        self.normed = ("conv1",)

    def forward(self, features: torch.Tensor, descriptor: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, 2H, 2W]."""
        if self.after:
            main = self.norm1(self.conv1(features), descriptor, NEGATIVE_SLOPE, True, reader=self.conv2)
            main = self.norm2(self.conv2(main), descriptor, NEGATIVE_SLOPE, inplace=True)
            skip = self.conv_skip(features)
            return self.norm_skip(skip, descriptor, NEGATIVE_SLOPE, inplace=True, added=main)
        main = self.conv1(self.norm1(features, descriptor, NEGATIVE_SLOPE, reader=self.conv1))
        main = self.conv2(self.norm2(main, descriptor, NEGATIVE_SLOPE, inplace=True, reader=self.conv2))
        skip = self.conv_skip(self.norm_skip(features, descriptor, NEGATIVE_SLOPE))
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
        self.after = config.adain_after
        widths = [
            min(config.edit_channels * 2**level, config.edit_max_channels)
            for level in range(config.edit_stages + 1)
        ]
        self.first = _edit_block(6, widths[0], config, kernel_size=7)
        self.downs = nn.ModuleList(
            _edit_block(widths[level], widths[level + 1], config, resample="down")
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
            _edit_block(widths[level + 1], widths[level], config, resample="up") for level in stages
        )
        self.jumps = nn.ModuleList(_edit_block(widths[level], widths[level], config) for level in stages)
        self.final = FinalConv(widths[0], spectral=config.spectral)

    def forward(self, image: torch.Tensor, warped: torch.Tensor, descriptor: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] twice in [-1, 1] and [B, descriptor_size] -> [B, 3, H, W] in [-1, 1]."""
        motion = (descriptor,) if self.after else ()
        features = self.first(torch.cat([image, warped], dim=1), *motion)
        skips = [features]
        for down in self.downs:
            features = down(features, *motion)
            skips.append(features)
        skips.pop()
        for residuals, up, jump in zip(self.residuals, self.ups, self.jumps, strict=True):
            for residual in residuals:  # type: ignore[attr-defined]
                features = residual(features, descriptor)
            features = jump(skips.pop(), *motion, added=up(features, *motion))
        return torch.tanh(self.final(features).float())


class MotionBlock(nn.Module):
    """:class:`PlainBlock` with AdaIN in the place of its norm: the paper's block of the editing network.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        config: sizes.
        kernel_size: odd kernel size.
        resample: ``up`` repeats every pixel before the convolution, ``down`` averages 2x2 after it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        config: DNetConfig,
        kernel_size: int = 3,
        resample: Literal["none", "up", "down"] = "none",
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.conv = maybe_spectral_norm(conv, config.spectral)
        self.norm = _adain(out_channels, config)
        self.resample = resample
        self.normed = ("conv",)

    def forward(
        self, features: torch.Tensor, descriptor: torch.Tensor, added: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W'], H' being H, 2H or H/2; plus ``added`` of that shape."""
        if self.resample == "up":
            features = F.interpolate(features, scale_factor=2.0, mode="nearest")
        if self.resample != "down":
            return self.norm(self.conv(features), descriptor, NEGATIVE_SLOPE, inplace=True, added=added)
        out = F.avg_pool2d(self.norm(self.conv(features), descriptor, NEGATIVE_SLOPE, inplace=True), 2)
        return out if added is None else out + added


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
        self.normed = ("conv1", "conv2")

    def forward(self, features: torch.Tensor, descriptor: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        out = features
        if self.two_layer:
            out = self.norm1(self.conv1(out), descriptor, NEGATIVE_SLOPE, inplace=True, reader=self.conv2)
        return self.norm2(self.conv2(out), descriptor, inplace=True, added=features)


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
    # numbers and not a tensor of them: making one on a GPU would wait for it
    shift = torch.stack([2.0 * flow[:, 0] / (width - 1), 2.0 * flow[:, 1] / (height - 1)], dim=1)
    return resize(identity + shift, size)


def _adain(num_channels: int, config: DNetConfig) -> AdaIN:
    return AdaIN(num_channels, config.descriptor_size, config.adain_hidden)


def _warp_conv(conv: nn.Module, config: DNetConfig) -> nn.Module:
    return maybe_spectral_norm(conv, config.spectral_warping)


def _edit_block(
    in_channels: int,
    out_channels: int,
    config: DNetConfig,
    kernel_size: int = 3,
    resample: Literal["none", "up", "down"] = "none",
) -> nn.Module:
    """A block of the editing network outside its residual blocks, as released or as in the paper."""
    if config.adain_after:
        return MotionBlock(in_channels, out_channels, config, kernel_size, resample)
    return PlainBlock(in_channels, out_channels, kernel_size, resample, spectral=config.spectral)


def _double_size(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
