"""The mark of the picture on frames that are tensors already, without leaving their device.

The same mark as that of :class:`~videoretalking.provenance.video.VideoMark`, but for the rounding of its tables:
bytes differ by a level here and there, which the detector does not see. The main job
uses it where frames stay on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from videoretalking.provenance import video
from videoretalking.provenance.carriers import carriers_of, draw_tile, period_for
from videoretalking.provenance.keys import Key
from videoretalking.provenance.payload import Payload, encode

_GRAY = (0.299, 0.587, 0.114)


class TensorMark:
    """Writes one payload into batches of frames, on the device where they are.

    Args:
        key: who may find the mark.
        payload: what it says.
    """

    def __init__(self, key: Key, payload: Payload) -> None:
        self._carriers = carriers_of(key)
        self._code = encode(payload)
        # of the last size, on the last device: [H, W] the pattern, and [1, 1, h, w] as VideoMark draws its power
        self._drawn: tuple[Tensor, Tensor] | None = None

    def apply(self, frames: Tensor, masks: Tensor | None = None) -> Tensor:
        """Marked copies of frames, in as many operations as one frame takes.

        Each is marked as it would be alone, but for the rounding of sums.

        Args:
            frames: [N, 3, H, W] floating-point RGB in [0, 1].
            masks: [N, 1, H, W] or [1, 1, H, W] in [0, 1], how strongly to mark; pixels at 0 keep their values.

        Returns:
            [N, 3, H, W] in [0, 1], of the same type and on the same device.
        """
        images = frames.detach().float()
        pattern, power = self._drawn_for(frames)
        strength = self._strength(images, power)
        if masks is not None:
            strength = strength * masks
        change = strength * pattern
        red, green, blue = images.split(1, 1)
        # numbers and not a tensor of them: making one on a GPU would wait for it
        colors = [
            torch.add(red, change, alpha=video._RED / 255.0),
            torch.add(green, change, alpha=video._GREEN / 255.0),
            blue,
        ]
        return torch.cat(colors, dim=1).clamp_(0.0, 1.0).to(frames.dtype)

    def _drawn_for(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        height, width = frames.shape[-2:]
        known = self._drawn
        if known is None or known[0].shape != (height, width) or known[0].device != frames.device:
            period = period_for(height, width)
            tile = torch.from_numpy(draw_tile(self._carriers, self._code, period)).to(frames.device)
            pattern = tile.repeat(-(-height // period), -(-width // period))[:height, :width].contiguous()
            size = (-(-height // video._COARSE), -(-width // video._COARSE))
            power = functional.interpolate(pattern.square()[None, None], size, mode="area")
            known = self._drawn = pattern, power
        return known

    @staticmethod
    def _strength(images: Tensor, power: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] and [1, 1, h, w] -> [N, 1, H, W] gray levels that the eye does not see here."""
        height, width = images.shape[-2:]
        red, green, blue = images.split(1, 1)
        gray = red * (255.0 * _GRAY[0])
        for color, weight in ((green, _GRAY[1]), (blue, _GRAY[2])):
            gray = torch.add(gray, color, alpha=255.0 * weight)
        small = functional.interpolate(gray, (-(-height // 2), -(-width // 2)), mode="area")
        size = power.shape[-2:]
        busy = functional.interpolate((small - _blur(small, 7)).abs(), size, mode="area")
        light = functional.interpolate(small, size, mode="area")
        busy = _blur(busy, 3)
        strength = (video.FLOOR + video.GAIN * busy).clamp(video.FLOOR, video.CEILING)
        strength = strength / (1 + (busy / video.BUSY).square())
        strength = strength * (0.5 + 0.5 / video.DARK * light).clamp(max=1.0)
        strength = strength * max(video.WEAKEST, min(1.0, (video.LARGE_SIDE / min(height, width)) ** 0.5))
        mean = (strength.square() * power).mean(dim=(1, 2, 3), keepdim=True).sqrt()
        most = video.MOST if min(height, width) < video.SMALL_SIDE else 1.0
        strength = strength * (video.MEAN_STRENGTH / mean).clamp(max=most)
        return functional.interpolate(strength, (height, width), mode="bilinear", align_corners=False)


def _blur(images: Tensor, size: int) -> Tensor:
    """Mean over ``size`` x ``size`` pixels, mirrored at the border as OpenCV does it."""
    reach = size // 2
    mode = "reflect" if min(images.shape[-2:]) > reach else "replicate"
    return functional.avg_pool2d(functional.pad(images, (reach,) * 4, mode=mode), size, stride=1)
