"""Stage 3 of the paper: from 96x96 to 384x384 by E-Net (section 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch

from videoretalking.core.constants import ENET_SIZE
from videoretalking.core.quality import psnr
from videoretalking.models.enet import ENet, Window
from videoretalking.models.layers.blocks import resize, shrink
from videoretalking.pipeline.engine import Runner
from videoretalking.pipeline.formats import MIN_PSNR
from videoretalking.pipeline.jobs import FaceJob

logger = logging.getLogger(__name__)

_GRID = (
    4  # pixels of L-Net's image to whose multiples a window grows: convolutions are prepared for few sizes
)


class Enhancer:
    """Enlarges L-Net's faces under the identity of the person.

    Differs from paper: the style code is not taken from each frame anew but is the mean over the frames of the
    person seen so far, of which every ``identity_every``-th is encoded. In training the reference is another frame
    of the clip too; a steady code does not flicker, and the encoder is nearly half of E-Net's work.

    Faces may be wanted at half of E-Net's size. Its image after one doubling less is then taken if that shows the
    same, else the whole one is reduced.

    Args:
        enet: E-Net; None enlarges bilinearly (ablation of table 3).
        identity_every: frames between encodings; 1 encodes each frame and uses its own code, as published.
    """

    def __init__(self, enet: Runner[ENet] | None, identity_every: int) -> None:
        self.enet = enet
        self.every = identity_every
        if enet is not None:
            self.encode = enet.using(enet.network.identity_encoder)
            self.paint = enet.using(enet.network.paint)
        self._people: dict[tuple[int, int], _Person] = {}
        self._window: Window | None = None
        self._half: bool | None = None

    def __call__(
        self,
        faces: Sequence[FaceJob],
        low_res: torch.Tensor,
        identity: torch.Tensor,
        share: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Enhance.

        Args:
            faces: the faces.
            low_res: [N, 3, 96, 96] in [0, 1], L-Net's images of them.
            identity: [N, 3, S, S] in [0, 1], sharp crops of the same frames, S being 384 or 192.
            share: [N, 1, 96, 96] how much of each pixel will be shown; None stands for ones. What is far from all
                that is shown need not be painted and may be 0.

        Returns:
            [N, 3, S, S] in [0, 1].
        """
        side = identity.shape[-1]
        if self.enet is None:
            return resize(low_res, side)
        if self.every <= 1:
            return _reduced(self.enet(low_res, identity).clamp(0.0, 1.0), side)
        self.enet.settle(low_res[:1], identity[:1])
        codes = self._shared_codes(faces, identity)
        window = self._grown_window(share)
        doublings = None
        if side < ENET_SIZE and self._half_is_enough(low_res[:1], codes[0][None], share):
            doublings = 1
        if self.paint.batch_size == 1:  # each face comes with its code
            images = [self.paint(low_res, torch.stack(codes), window=window, doublings=doublings)]
        else:  # faces that share a code are faster
            images = [
                self.paint(low_res[first:last], style=code[None], window=window, doublings=doublings)
                for code, first, last in _runs(codes)
            ]
        painted = torch.cat(images).clamp(0.0, 1.0)
        if window is not None:
            left, top, right, bottom = window
            factor = painted.shape[-1] // (right - left)
            part = painted
            painted = part.new_zeros(len(part), 3, *(factor * length for length in low_res.shape[2:]))
            painted[..., factor * top : factor * bottom, factor * left : factor * right] = part
        return _reduced(painted, side)

    def _half_is_enough(self, low_res: torch.Tensor, code: torch.Tensor, share: torch.Tensor | None) -> bool:
        """Whether E-Net's image before its last doubling shows what the last one shows; decided by one face."""
        if self._half is None:
            half = self.paint(low_res, style=code, doublings=1).clamp(0.0, 1.0)
            side = half.shape[-1]
            whole = _reduced(self.paint(low_res, style=code).clamp(0.0, 1.0), side)
            shown = 1.0 if share is None else resize(share[:1], side)
            quality = float(psnr(shown * half[None], shown * whole[None]))
            self._half = quality >= MIN_PSNR
            logger.info("E-Net at half of its size: %.1f dB%s", quality, "" if self._half else ", not enough")
        return self._half

    def _grown_window(self, share: torch.Tensor | None) -> Window | None:
        """The part to paint, which only grows; None is all of it, as on a GPU, which would have to wait."""
        if share is None or share.device.type != "cpu":
            return None
        seen = share.amax(dim=(0, 1)) > 0.0
        lines = [seen.any(dim=axis).nonzero() for axis in (0, 1)]  # columns, rows
        if len(lines[0]):
            # one more on each side: what is enlarged reaches half a pixel further
            starts = [max((int(line[0]) - 1) // _GRID * _GRID, 0) for line in lines]
            stops = [min(-(-(int(line[-1]) + 2) // _GRID) * _GRID, share.shape[-1]) for line in lines]
            known = self._window or (*starts, *stops)
            left, top = map(min, starts, known[:2])
            right, bottom = map(max, stops, known[2:])
            self._window = left, top, right, bottom
        return self._window

    def _shared_codes(self, faces: Sequence[FaceJob], identity: torch.Tensor) -> list[torch.Tensor]:
        """The mean code of each face's person when the frame comes, [style_size] each."""
        due = [place for place, face in enumerate(faces) if self._person(face).wants(face.index, self.every)]
        fresh = dict(
            zip(due, self.encode(torch.stack([identity[place] for place in due])) if due else (), strict=True)
        )
        codes = []
        for place, face in enumerate(faces):
            person = self._person(face)
            if place in fresh:
                person.add(fresh[place])
            assert person.mean is not None
            codes.append(person.mean)
        return codes

    def _person(self, face: FaceJob) -> _Person:
        return self._people.setdefault((face.track, face.stretch), _Person())


class _Person:
    """Running mean of the style codes of one face in one stretch of frames."""

    def __init__(self) -> None:
        self.mean: torch.Tensor | None = None
        self._frames: set[int] = set()
        self._count = 0

    def wants(self, index: int, every: int) -> bool:
        """Whether frame ``index`` is to be encoded; each is at most once."""
        if index in self._frames or (self._frames and index % every):
            return False
        self._frames.add(index)
        return True

    def add(self, code: torch.Tensor) -> None:
        self._count += 1
        self.mean = code if self.mean is None else self.mean + (code - self.mean) / self._count


def _runs(codes: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, int, int]]:
    """Stretches of faces that share one code object: (code, first, past the last)."""
    first = 0
    for last in range(1, len(codes) + 1):
        if last == len(codes) or codes[last] is not codes[first]:
            yield codes[first], first, last
            first = last


def _reduced(images: torch.Tensor, side: int) -> torch.Tensor:
    """[N, 3, S, S] -> [N, 3, side, side], by pixel areas."""
    return images if images.shape[-1] == side else shrink(images, side, antialias=True)
