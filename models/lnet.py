"""L-Net, the lip-sync network (paper, section 3.2 and appendix C.2).

It paints the masked lower half of a face from speech: two visual encoders see the masked frame and a
reference, cross-attention mixes them, residual Fast Fourier Convolutions with AdaIN bring in the audio,
and a decoder with skips from the masked frame paints the result. Defaults are the sizes of the released
network.

Three options are off in the released layout. Figure 5's caption asks for skips from the reference, which the
release does not have. The other two are aids for little data and not in the paper: most of a lower face need not be
painted, since the reference shows it, so the decoder may also say how far each pixel of the reference moves and
which share of the painting is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.config import require_positive, require_range
from videoretalking.models.layers.attention import CrossAttentionBlocks
from videoretalking.models.layers.audio_encoder import AudioEncoder
from videoretalking.models.layers.blocks import resize, roll_clip, scale_by, unroll_audio, unroll_clip
from videoretalking.models.layers.editing_blocks import FinalConv, PlainBlock
from videoretalking.models.layers.ffc import FFCStage

_MAX_FLOW = 16.0  # pixels of the 96: a jaw moves less
_MEMORY = 0.01  # share of a batch in the mean of the audio vectors
_FIRST_SHARE = -1.0  # logit of the share before training: the reference shows first, where it can be moved


@dataclass(frozen=True)
class LNetConfig:
    """Sizes of L-Net.

    Attributes:
        channels: channels at full size; they double with each of the down-samplings up to ``max_channels``.
        max_channels: upper limit of the doubling.
        num_down: down-samplings (paper: three).
        num_residual: FFC blocks per up-sampling stage (appendix C.2.1: nine).
        stage_residuals: FFC blocks of each stage from coarse to fine, instead of ``num_residual`` in all.
        reference_skips: add features of the reference in the decoder, as figure 5's caption says.
        blend_reference: not in the paper: paint a share of each pixel only, the rest is the reference.
        warp_reference: not in the paper: move the reference's pixels first; needs ``blend_reference``.
        attention_layers: cross-attention blocks at the coarsest size (paper: two); 0 is the ablation "L-Net
            without cross-attention" of table 3.
        attention_heads: heads of each attention.
        attention_head_size: token length inside a head.
        attention_hidden: width of the feed-forward layers between attentions.
        audio_channels: channels of the audio encoder's stages; the last is the length of the audio vector.
        audio_gain: not in the paper: how much further than in training the audio vector departs from its mean in
            use. A network that cannot hear all of what moves a mouth paints the mean of what it might be, and lips
            that move too little.
        adain_hidden: width of the perceptron inside every AdaIN.
        global_ratio: share of channels in the global (Fourier) part of an FFC.
        ffc_negative_slope: leaky slope inside the FFC units.
        norm: normalization of the visual encoder and decoder.
        spectral: spectral norm on their convolutions.
        antialias: how a face comes to 96 pixels, in training and in use (:func:`models.layers.blocks.shrink`): as
            the mean of the pixels that each new one covers, or bilinearly as the released weights were trained.
    """

    channels: int = 64
    max_channels: int = 512
    num_down: int = 3
    num_residual: int = 9
    stage_residuals: tuple[int, ...] = ()
    # Differs from paper: off, as released; figure 5's caption has skips from the reference.
    reference_skips: bool = False
    blend_reference: bool = False
    warp_reference: bool = False
    attention_layers: int = 2
    attention_heads: int = 4
    attention_head_size: int = 64
    attention_hidden: int = 256
    # Differs from paper: audio vector of 512 numbers (paper: 256), 512 channels at 12x12 (paper: 256),
    # layer norm with spectral norm (paper: batch norm), slope 0.01 in the FFC units; all as released.
    audio_channels: tuple[int, ...] = (32, 64, 128, 256, 512)
    audio_gain: float = 1.0
    adain_hidden: int = 128
    global_ratio: float = 0.75
    ffc_negative_slope: float = 0.01
    norm: Literal["layer", "batch"] = "layer"
    spectral: bool = True
    antialias: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes without meaning and those that do not go together."""
        require_positive(
            self, "channels", "max_channels", "num_down", "audio_channels", "adain_hidden", "audio_gain"
        )
        require_positive(self, "attention_heads", "attention_head_size", "attention_hidden", "audio_gain")
        require_range(self, "num_residual", "stage_residuals", "attention_layers", least=0)
        require_range(self, "global_ratio", least=0, most=1)
        if self.stage_residuals and len(self.stage_residuals) != self.num_down:
            raise ValueError(
                f"stage_residuals names {len(self.stage_residuals)} stages, there are {self.num_down} (num_down)"
            )
        if self.warp_reference and not self.blend_reference:
            raise ValueError("warp_reference moves what blend_reference shows: set both")


@dataclass(frozen=True)
class Painting:
    """What the decoder gives for a batch of faces.

    Attributes:
        image: [B, 3, H, W] in [0, 1], the painted face.
        share: [B, 1, H, W] in [0, 1], how much of the painting is shown; None shows all of it.
        flow: [B, 2, H, W] (dx, dy) in pixels, where each pixel of the reference comes from; None moves nothing.
    """

    image: torch.Tensor
    share: torch.Tensor | None = None
    flow: torch.Tensor | None = None

    def over(self, frame: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Show the painting where it has a share, and what is known elsewhere.

        Args:
            frame: [B, 3, S, S] in [0, 1]; its lower half is not read.
            reference: [B, 3, S, S] in [0, 1].

        Returns:
            [B, 3, S, S] in [0, 1].
        """
        return self.on(frame if self.share is None else self.known(frame, reference))

    def known(self, frame: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """The frame above mid-height and the moved reference below it.

        The pictures may be larger than the painting: the flow is smooth and can be enlarged, so their detail stays.

        Args:
            frame: [B, 3, S, S] in [0, 1]; its lower half is not read.
            reference: [B, 3, S, S] in [0, 1].

        Returns:
            [B, 3, S, S] in [0, 1].
        """
        middle = frame.shape[-1] // 2
        lower = reference[:, :, middle:] if self.flow is None else _move(reference, self.flow, middle)
        return torch.cat([frame[:, :, :middle], lower], dim=2)

    def on(self, known: torch.Tensor) -> torch.Tensor:
        """The painting over :meth:`known` [B, 3, S, S], by its share; all of it where it has none."""
        side = known.shape[-1]
        image = self.image if self.image.shape[-1] == side else resize(self.image, side)
        return image if self.share is None else torch.lerp(known, image, resize(self.share, side))


def lnet_input(frame: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """What L-Net sees: the frame without its lower half, then the reference (section 3.2).

    No pixel of the original mouth reaches the network, in training and in use.

    Args:
        frame: [B, 3, H, W] or clips [B, 3, T, H, W] in [0, 1].
        reference: the same shape.

    Returns:
        [B, 6, ...] in [0, 1]; the lower half of the first three channels is 0.
    """
    masked = frame.clone()
    masked[..., frame.shape[-2] // 2 :, :] = 0.0
    return torch.cat([masked, reference], dim=1)


class LNet(nn.Module):
    """Audio encoder, two visual encoders, cross-attention, FFC decoder.

    Args:
        config: sizes.
    """

    def __init__(self, config: LNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or LNetConfig()
        self.audio_encoder = AudioEncoder(self.config.audio_channels)
        if self.config.audio_gain != 1.0:
            self.register_buffer("audio_mean", torch.zeros(self.config.audio_channels[-1]))
        self.visual_encoder = VisualEncoder(self.config)
        self.decoder = Decoder(self.config)

    def forward(
        self, audio: torch.Tensor, faces: torch.Tensor, parts: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, Painting]:
        """Paint the lower half of each face.

        Args:
            audio: [B, 1, 80, 16] log-mel window in [-4, 4]; clips [B, T, 1, 80, 16].
            faces: [B, 6, 96, 96] RGB in [0, 1], the frame with its lower half set to 0, then the reference;
                clips [B, 6, T, 96, 96].
            parts: return what :meth:`paint` gives as well, for losses on it. One call gives both, because several
                processes train in step through this method alone.

        Returns:
            [B, 3, 96, 96] RGB in [0, 1]; clips [B, 3, T, 96, 96]. With ``parts`` the painting beside it; that of
            clips is of T * B faces, time-major.
        """
        num_frames = faces.shape[2] if faces.dim() == 5 else 0
        if num_frames:
            audio, faces = unroll_audio(audio), unroll_clip(faces)
        painting = self.paint(audio, faces)
        shown = painting.over(*faces.split(3, dim=1))
        if num_frames:
            shown = roll_clip(shown, num_frames)
        return (shown, painting) if parts else shown

    def paint(self, audio: torch.Tensor, faces: torch.Tensor) -> Painting:
        """The parts of the result: painting, share and flow.

        Args:
            audio: [B, 1, 80, 16] as in :meth:`forward`.
            faces: [B, 6, 96, 96].
        """
        condition = self.listen(audio)
        features, skips, reference_skips = self.visual_encoder(*faces.split(3, dim=1))
        painting: Painting = self.decoder(features, skips, reference_skips, condition)
        return painting

    def listen(self, audio: torch.Tensor) -> torch.Tensor:
        """The audio vector [B, C]; in use as far from its mean as ``audio_gain`` says, and not negative, as ever.

        Args:
            audio: [B, 1, 80, 16] as in :meth:`forward`.
        """
        heard: torch.Tensor = self.audio_encoder(audio)
        if self.config.audio_gain == 1.0:
            return heard
        mean = self.get_buffer("audio_mean")
        if self.training:
            mean.lerp_(heard.detach().mean(dim=0).to(mean.dtype), _MEMORY)
            return heard
        return (mean + self.config.audio_gain * (heard - mean)).clamp(min=0.0)


class VisualEncoder(nn.Module):
    """Two branches of the same shape for masked frame and reference, joined by cross-attention.

    Args:
        config: sizes.
    """

    def __init__(self, config: LNetConfig) -> None:
        super().__init__()
        self.masked = _branch(config)
        self.reference = _branch(config)
        self.attention = (
            CrossAttentionBlocks(
                _widths(config)[-1],
                config.attention_layers,
                config.attention_heads,
                config.attention_head_size,
                config.attention_hidden,
            )
            if config.attention_layers
            else None
        )

    def forward(
        self, masked: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """Encode.

        Args:
            masked: [B, 3, 96, 96].
            reference: [B, 3, 96, 96].

        Returns:
            [B, 2C, 12, 12], the attended masked branch and the raw reference; the skips of the masked branch
            and of the reference from the finest to the coarsest.
        """
        skips, reference_skips = [], []
        for masked_layer, reference_layer in zip(self.masked, self.reference, strict=True):
            masked, reference = masked_layer(masked), reference_layer(reference)
            skips.append(masked)
            reference_skips.append(reference)
        if self.attention is not None:
            masked = self.attention(masked, reference)
        return torch.cat([masked, reference], dim=1), skips[:-1], reference_skips[:-1]


class Decoder(nn.Module):
    """Stages of FFC residual blocks, up-sampling and a skip each; then the image.

    Args:
        config: sizes.
    """

    def __init__(self, config: LNetConfig) -> None:
        super().__init__()
        widths = _widths(config)
        condition = config.audio_channels[-1]
        residuals, ups, jumps = [], [], []
        channels = 2 * widths[-1]
        counts = config.stage_residuals or (config.num_residual,) * config.num_down
        for count, width in zip(counts, reversed(widths[:-1]), strict=True):
            residuals.append(
                FFCStage(
                    count,
                    channels,
                    config.global_ratio,
                    condition,
                    config.adain_hidden,
                    config.ffc_negative_slope,
                )
            )
            ups.append(_plain(config, channels, width, resample="up"))
            jumps.append(_plain(config, width, width))
            channels = width
        # all three lists run from the coarsest stage to the finest
        self.residuals = nn.ModuleList(residuals)
        self.ups = nn.ModuleList(ups)
        self.jumps = nn.ModuleList(jumps)
        self.final = FinalConv(channels, spectral=config.spectral)
        self.reference_jumps = (
            nn.ModuleList(_plain(config, width, width) for width in reversed(widths[:-1]))
            if config.reference_skips
            else None
        )
        first_share = _FIRST_SHARE if config.warp_reference else 0.0
        self.share = (
            _constant(nn.Conv2d(channels, 1, 7, padding=3), first_share) if config.blend_reference else None
        )
        self.flow = _constant(nn.Conv2d(widths[1], 2, 5, padding=2), 0.0) if config.warp_reference else None

    def forward(
        self,
        features: torch.Tensor,
        skips: list[torch.Tensor],
        reference_skips: list[torch.Tensor],
        condition: torch.Tensor,
    ) -> Painting:
        """[B, 2C, 12, 12], two lists of skips from fine to coarse and [B, audio vector] -> 96 x 96."""
        flow = None
        stages = zip(
            self.residuals, self.ups, self.jumps, reversed(skips), reversed(reference_skips), strict=True
        )
        for stage, (residuals, up, jump, skip, reference_skip) in enumerate(stages):
            features = residuals(features, condition)
            if self.flow is not None and stage == len(self.ups) - 1:
                # read at half the size and bounded softly: a flow is smooth
                flow = scale_by(_MAX_FLOW * torch.tanh(self.flow(features).float() / 4.0), 2.0)
            features = jump(skip, added=up(features))
            if self.reference_jumps is not None:
                features = self.reference_jumps[stage](reference_skip, added=features)
        image = torch.sigmoid(self.final(features).float())
        share = None if self.share is None else torch.sigmoid(self.share(features).float())
        return Painting(image, share, flow)


def _constant(conv: nn.Conv2d, value: float) -> nn.Conv2d:
    """A convolution that gives ``value`` everywhere until it is trained."""
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, value)
    return conv


def _move(image: torch.Tensor, flow: torch.Tensor, first: int) -> torch.Tensor:
    """[B, C, S, S] read at each pixel's place plus ``flow`` [B, 2, s, s], in pixels of the flow's own size.

    Only from row ``first`` on: [B, C, S - first, S].
    """
    side = image.shape[-1]
    # autocast would round the places to a tenth of a pixel
    with torch.autocast(image.device.type, enabled=False):
        places = (torch.arange(side, device=image.device, dtype=torch.float32) * 2.0 + 1.0) / side - 1.0
        rows, columns = torch.meshgrid(places[first:], places, indexing="ij")
        offset = resize(flow.float(), side)[:, :, first:] * (2.0 / flow.shape[-1])
        grid = torch.stack([columns + offset[:, 0], rows + offset[:, 1]], dim=3)
    # enlarged pictures are there for their detail
    mode = "bicubic" if side > flow.shape[-1] else "bilinear"
    return F.grid_sample(image.float(), grid, mode=mode, padding_mode="border", align_corners=False)


def _widths(config: LNetConfig) -> list[int]:
    return [min(config.channels * 2**level, config.max_channels) for level in range(config.num_down + 1)]


def _plain(
    config: LNetConfig,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    resample: Literal["none", "up", "down"] = "none",
) -> PlainBlock:
    return PlainBlock(in_channels, out_channels, kernel_size, resample, config.norm, config.spectral)


def _branch(config: LNetConfig) -> nn.ModuleList:
    widths = _widths(config)
    layers = [_plain(config, 3, widths[0], kernel_size=7)]
    layers += [
        _plain(config, widths[level], widths[level + 1], resample="down") for level in range(config.num_down)
    ]
    return nn.ModuleList(layers)
