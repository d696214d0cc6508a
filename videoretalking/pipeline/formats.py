"""Which number format each convolution of a network may have: measured on the first real faces, and remembered.

How much a network loses in a reduced format depends on its weights, so that it is measured and not assumed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from videoretalking.core.devices import autocast, return_freed_memory
from videoretalking.core.quality import psnr
from videoretalking.models.bfloat16 import SmallConv, float32_convs
from videoretalking.models.int8 import HeavyConv, find_losses, heavy_convs, weighing
from videoretalking.models.layers.packing import pack_weights
from videoretalking.pipeline.verdicts import Verdict, load_verdict, store_verdict, verdict_file

logger = logging.getLogger(__name__)

MIN_PSNR = 40.0  # dB between the first batch in a reduced format and in float32, below which it is not taken
_TRIED = 2  # faces by which the number format is chosen
_TRIALS = 4  # of int8 for some of the layers, at most
_MARGIN = 1.0  # dB above the bound that are aimed at there: what was tuned on these faces is worse on others
_SLACK = 0.7  # dB above that, at which the search ends
_MIN_SHARE = 0.2  # of the work of the large convolutions: if less is left in int8, it is not worth having
_COST, _ENOUGH = 1.0, 45.0  # dB that bfloat16 for what int8 left may cost; more than enough of them


class CpuTrial:
    """Changes a network to int8 and bfloat16 as far as its first real faces look the same; the verdict holds.

    Where all of the large convolutions in int8 lose too much, those that lose most for their work are left in
    float32. These and the small ones are then tried in bfloat16.

    Args:
        network: for inference only; changed in place.
        enabled: False makes the trial do nothing.
        bfloat16_too: try that as well.
        folder: where verdicts are kept for the next run; None keeps none.
    """

    def __init__(
        self, network: nn.Module, enabled: bool, bfloat16_too: bool = False, folder: Path | None = None
    ) -> None:
        self.network: nn.Module | None = network if enabled else None
        self._bfloat16_too, self._folder = bfloat16_too, folder

    def __call__(self, function: Callable[..., Any], *inputs: torch.Tensor, **shared: Any) -> None:
        """At the first call run ``function`` both ways on the first faces and decide; afterwards return at once.

        Args:
            function: of the network; its result is an image in [0, 1], or has one as its main output.
            inputs: its arguments.
            shared: its arguments by name.
        """
        network, self.network = self.network, None
        if network is None:
            return
        # outside of inference mode, so that gradients can be had
        with torch.inference_mode(False), torch.no_grad():
            file = verdict_file(self._folder, network, f"{MIN_PSNR} {self._bfloat16_too}")
            known = load_verdict(file)
            if known is None or not known.apply(network):
                few = [tensor[:_TRIED].clone() for tensor in inputs]
                more = {name: _own(value) for name, value in shared.items()}
                known = self._find(network, function, few, more)
                store_verdict(file, known)
        pack_weights(network)
        logger.info("%s %s", type(network).__name__, known.text)
        return_freed_memory()  # weights in float32, and what the trial needed

    def _find(
        self,
        network: nn.Module,
        function: Callable[..., Any],
        inputs: list[torch.Tensor],
        shared: dict[str, Any],
    ) -> Verdict:
        mixture = _Mixture(heavy_convs(network), function, inputs, shared)
        convs = mixture.convs
        quality = math.inf
        texts: list[str] = []
        small: list[SmallConv] = []
        if convs:
            quality, text = self._try_int8(mixture)
            texts.append(text)
        if self._bfloat16_too:
            least = max(MIN_PSNR, min(quality, _ENOUGH) - _COST) if texts else MIN_PSNR
            small, text = _try_bfloat16(network, mixture, {conv.path for conv in convs}, least)
            texts.append(text)
        balances = {conv.path: conv.balance for conv in convs if conv.is_int8}
        text = "; ".join(texts) or "stays in float32, which has no convolution that int8 is worth it for"
        return Verdict(balances, tuple(conv.path for conv in small), text)

    def _try_int8(self, mixture: _Mixture) -> tuple[float, str]:
        """The PSNR that is left, infinite in float32, and what to say."""
        passed = False
        try:
            kept, quality = mixture.search()
            passed = quality >= MIN_PSNR
        finally:
            if not passed:
                for conv in mixture.convs:
                    conv.to_float32()
        verdict = f"stays in float32, int8 needs {MIN_PSNR:.0f} dB"
        if passed:
            verdict = f"in int8 but for {kept} of {len(mixture.convs)} convolutions" if kept else "in int8"
        return quality if passed else math.inf, f"{verdict}: {quality:.1f} dB on the first faces"


def _try_bfloat16(
    network: nn.Module, mixture: _Mixture, heavy: set[str], least: float
) -> tuple[list[SmallConv], str]:
    """Try all that is in float32, then all but the heavy ones, of which int8 lost too much.

    Args:
        network: changed in place.
        mixture: knows what it looked like.
        heavy: paths of its heavy convolutions.
        least: PSNR that must be left.

    Returns:
        Those that were changed, and what to say.
    """
    convs = float32_convs(network)
    light = [conv for conv in convs if conv.path not in heavy]
    quality = math.nan
    for tried in (convs, light) if 0 < len(light) < len(convs) else (convs,):
        passed = False
        try:
            for conv in tried:
                conv.to_bfloat16()
            quality = mixture.quality()
            passed = quality >= least
        finally:
            if not passed:
                for conv in tried:
                    conv.to_float32()
        if passed:
            return tried, f"{len(tried)} others in bfloat16: {quality:.1f} dB"
    return [], f"{len(convs)} others stay in float32, bfloat16 needs {least:.1f} dB: {quality:.1f} dB"


class _Mixture:
    """The search for the convolutions of a network that have to stay in float32.

    Args:
        convs: of the network.
        function: of it.
        inputs: its arguments, [B, ...].
        shared: its arguments by name.
    """

    def __init__(
        self,
        convs: list[HeavyConv],
        function: Callable[..., Any],
        inputs: list[torch.Tensor],
        shared: dict[str, Any],
    ) -> None:
        self._function, self._inputs, self._shared = function, inputs, shared
        with weighing(convs):
            self._expected = self._image()
        self.convs = [conv for conv in convs if conv.is_worth_it]

    def search(self) -> tuple[int, float]:
        """Leave as few convolutions in float32 as needed, and change the others.

        Returns:
            How many are left; the PSNR, below :data:`MIN_PSNR` where all that is worth trying loses too much.
        """
        quality = self._try(0)
        if quality >= MIN_PSNR or not self._rank():
            return 0, quality
        # the estimates are off by nearly the same for neighboring counts, so each trial corrects the next
        target = MIN_PSNR + _MARGIN
        failed, best, offset = 0, (self._most() + 1, quality), 0.0
        for _ in range(_TRIALS):
            if best[0] - failed <= 1 or 0.0 <= best[1] - target <= _SLACK:
                break
            count = min(max(self._fewest(target - offset), failed + 1), best[0] - 1)
            quality = self._try(count)
            offset = quality - self._estimate(count)
            if quality >= target:
                best = count, quality
            else:
                failed = count
        self._apply(best[0])
        return best

    def _image(self) -> torch.Tensor:
        # what is beyond is cut off before anybody sees it
        return main_output(self._function(*self._inputs, **self._shared)).clamp(0.0, 1.0)

    def _apply(self, count: int) -> None:
        """Leave the first ``count`` convolutions in float32."""
        for place, conv in enumerate(self.convs):
            if place < count:
                conv.to_float32()
            else:
                conv.to_int8()

    def _try(self, count: int) -> float:
        self._apply(count)
        return self.quality()

    def quality(self) -> float:
        """PSNR of the network as it is now against what it was at first."""
        return float(psnr(self._image()[None], self._expected[None]))

    def _rank(self) -> bool:
        """Sort by what a convolution loses for its work; False where that cannot be told."""
        for tensor in self._inputs:
            tensor.requires_grad_(tensor.is_floating_point())
        known = find_losses(self.convs, self._image)
        for tensor in self._inputs:
            tensor.requires_grad_(False)
        self.convs.sort(key=lambda conv: conv.loss / conv.work, reverse=True)
        return known

    def _estimate(self, count: int) -> float:
        """PSNR with ``count`` in float32."""
        loss = sum(conv.loss for conv in self.convs[count:])
        return -10.0 * math.log10(max(loss, 1e-30))

    def _fewest(self, quality: float) -> int:
        """How many have to stay in float32 by the estimates."""
        return next(
            (count for count in range(len(self.convs)) if self._estimate(count) >= quality), len(self.convs)
        )

    def _most(self) -> int:
        """How many may stay in float32."""
        rest = total = sum(conv.work for conv in self.convs)
        for count, conv in enumerate(self.convs):
            rest -= conv.work
            if rest < _MIN_SHARE * total:
                return count
        return len(self.convs)


def _own(value: Any) -> Any:
    """A tensor that gradients can be had with, made from one of inference mode."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def main_output(result: Any) -> torch.Tensor:
    """The tensor that the product uses of what a network returns."""
    for name in ("logits", "points", "image"):
        if hasattr(result, name):
            return cast(torch.Tensor, getattr(result, name))
    return cast(torch.Tensor, result if isinstance(result, torch.Tensor) else result[0])


class FormatTrial:
    """Chooses the number format of a network on CUDA by its first real faces; the verdict holds.

    bfloat16 has three digits, which dozens of residual blocks in a row use up: L-Net of the released size, with
    random weights, is 29 dB from float32. float16 costs a GPU the same and is 18 dB better, but it overflows, so it
    is measured too before it is taken.

    Args:
        network: for the log.
        device: where it runs; anything but CUDA keeps the format.
        dtype: the wanted one; anything but bfloat16 is kept.
    """

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._name = type(network).__name__
        self._device = device
        self._dtype = dtype
        self._decided = device.type != "cuda" or dtype != torch.bfloat16

    @torch.inference_mode()
    def __call__(self, function: Callable[..., Any], *inputs: torch.Tensor, **shared: Any) -> torch.dtype:
        """The format to compute in; the first call runs ``function`` in several.

        Args:
            function: of the network, as in :class:`Int8Trial`.
            inputs: its arguments.
            shared: its arguments by name.
        """
        if self._decided:
            return self._dtype
        self._decided = True

        few = [tensor[:_TRIED] for tensor in inputs]

        def image(dtype: torch.dtype) -> torch.Tensor:
            # cuDNN's search for the fastest kernels would take seconds in each format
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), autocast(self._device, dtype):
                return main_output(function(*few, **shared)).float().clamp(0.0, 1.0)

        expected, tried = image(torch.float32), []
        self._dtype = torch.float32
        for dtype in (torch.bfloat16, torch.float16):
            quality = float(psnr(image(dtype)[None], expected[None]))
            tried.append(f"{quality:.1f} dB in {dtype}".replace("torch.", ""))
            if quality >= MIN_PSNR:  # not so for NaN
                self._dtype = dtype
                break
        chosen = str(self._dtype).removeprefix("torch.")
        logger.info("%s in %s: %s on the first faces", self._name, chosen, ", ".join(tried))
        return self._dtype
