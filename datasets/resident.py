"""Frames that stay decoded in memory, and the pictures that a device makes of them.

A corpus of minutes starves a GPU through files: each picture is decoded, cut and colored on the CPU again in every
epoch. Where all frames of a split fit into the memory of the device they stay there as uint8, workers only draw
what is to be seen (:mod:`datasets.plans`), and two matrix products a picture do the rest. Levels differ from those
of the files' path by rounding (docs/training.md).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoretalking.core.constants import LNET_SIZE
from videoretalking.core.distributed import World
from videoretalking.core.errors import UserError
from videoretalking.datasets.augment import reduced_side
from videoretalking.datasets.base import ClipDataset
from videoretalking.datasets.collection import Residence
from videoretalking.datasets.degradations import jpeg
from videoretalking.datasets.plans import REDUCE, Axis, Plan, Planner

logger = logging.getLogger(__name__)

_SHARE = 0.5  # of the free memory; the rest is for the training itself


class Resident:
    """Decoded frames of a data set.

    Args:
        dataset: whose samples then hold plans.
        frames: of each clip, [N, H, W, 3] uint8 on the device.
        restored: the restored frames likewise, or an empty list.
    """

    def __init__(
        self, dataset: ClipDataset, frames: Sequence[torch.Tensor], restored: Sequence[torch.Tensor]
    ) -> None:
        self.layouts = dataset.layouts
        self.frames = frames
        self.restored = restored
        self.device = frames[0].device
        sizes = [(clip.shape[2], clip.shape[1]) for clip in frames]
        restored_sizes = [(clip.shape[2], clip.shape[1]) for clip in restored] or sizes
        dataset.planner = Planner(sizes, restored_sizes)

    @torch.no_grad()
    def render(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Replace the plans in a batch by pictures on the device, in [0, 1] and laid out as files give them."""
        rendered: dict[str, torch.Tensor] = {}
        for name, layout in self.layouts.items():
            same = next((other for other in rendered if torch.equal(batch[other], batch[name])), None)
            if same is not None and self.layouts[same] == layout:
                rendered[name] = rendered[same]
                continue
            rows = batch[name]
            pictures = self._take(rows.flatten(0, -2)).unflatten(0, rows.shape[:-1])
            rendered[name] = _ARRANGE[layout](pictures).contiguous()
        return batch | rendered

    def _take(self, rows: torch.Tensor) -> torch.Tensor:
        """[P, numbers] -> [P, 3, S, S] in [0, 1]."""
        plans = [Plan.from_row(row) for row in rows.tolist()]
        parts, order = [], []
        for members in _groups(plans):
            parts.append(self._cut([plans[member] for member in members]))
            order += members
        levels = torch.cat(parts)[torch.argsort(torch.tensor(order)).to(self.device)]
        color = torch.tensor([plan.color for plan in plans], device=self.device).unflatten(1, (3, 4))
        mixed = torch.einsum("pij,pjhw->pihw", color[:, :, :3], levels) + color[:, :, 3, None, None]
        colored = mixed.round_().clamp_(0.0, 255.0)
        return _degrade(_lose_detail(colored, plans), plans) / 255.0

    def _cut(self, plans: Sequence[Plan]) -> torch.Tensor:
        """Pictures of one clip -> [K, 3, S, S] whole levels."""
        source = (self.restored if plans[0].restored else self.frames)[int(plans[0].clip)]
        index = torch.tensor([int(plan.frame) for plan in plans], device=source.device)
        frames = source[index].permute(0, 3, 1, 2).float()
        size, reduce = int(plans[0].size), plans[0].reduce
        across = axis_matrix([plan.x for plan in plans], source.shape[2], size, reduce, source.device)
        down = axis_matrix([plan.y for plan in plans], source.shape[1], size, reduce, source.device)
        levels = down[:, None] @ (frames @ across[:, None].transpose(2, 3))
        return levels.round_().clamp_(0.0, 255.0)


def stay_resident(dataset: ClipDataset, residence: Residence, world: World) -> Resident | None:
    """Decode a data set into the memory of the device, if it shall stay there.

    Args:
        dataset: of the training split; its samples are plans afterwards.
        residence: whether to; ``auto`` on a GPU where everything fits into half of its free memory.
        world: this process.

    Returns:
        What makes pictures of the plans, or None where the samples hold pictures as before.

    Raises:
        UserError: it shall and cannot.
    """
    if residence is False or (residence == "auto" and world.device.type != "cuda"):
        return None
    room = int(_SHARE * _free_memory(world))
    reason = "" if dataset.is_upright() else "this data set turns or pastes pictures, which needs the files"
    if not reason and _count_bytes(dataset, room) > room:
        reason = f"its frames need more than the {room / 2**30:.1f} GiB that may be used"
    if reason:
        if residence is True:
            raise UserError(f"data.resident=on is not possible: {reason}; set data.resident=off")
        logger.info("data.resident: frames are read from files: %s", reason)
        return None
    return load_resident(dataset, world.device)


def load_resident(dataset: ClipDataset, device: torch.device) -> Resident:
    """Decode all frames of a data set into the memory of a device."""
    started = time.monotonic()
    wanted = [False, True] if dataset.restored else [False]
    loaded: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number in range(len(dataset)):
            clip = dataset.clips.clip(number)
            for restored in wanted:
                frames = list(
                    pool.map(
                        partial(clip.frame, version="restored" if restored else "frames"), range(len(clip))
                    )
                )
                loaded[restored].append(torch.from_numpy(np.stack(frames)).to(device))
            if (number + 1) % 1000 == 0:
                logger.info("data.resident: %d of %d clips decoded", number + 1, len(dataset))
    total = sum(clip.numel() for clips in loaded.values() for clip in clips)
    logger.info(
        "data.resident: %d clips, %.2f GiB decoded on %s in %.0f s",
        *(len(dataset), total / 2**30, device, time.monotonic() - started),
    )
    return Resident(dataset, loaded[False], loaded[True])


def axis_matrix(
    axes: Sequence[Axis], length: int, size: int, reduce: float, device: torch.device
) -> torch.Tensor:
    """The weights with which pixels along one axis of a frame make the pixels of a picture.

    Args:
        axes: of K pictures with one ``reduction``.
        length: pixels of the frame.
        size: pixels of the view.
        reduce: value of :data:`REDUCE`.
        device: where to compute.

    Returns:
        [K, pixels of the picture, length]; every row sums to 1.
    """
    numbers = torch.tensor([[axis.first, axis.length, axis.cells, axis.scale, axis.shift] for axis in axes])
    first, part, cells, scale, shift = numbers.to(device)[:, :, None].unbind(dim=1)  # [K, 1] each
    most = int(max(axis.cells for axis in axes))
    place = ((torch.arange(size, device=device) - shift) / scale).clamp_min(0.0).minimum(cells - 1.0)
    weights = (1.0 - (place[:, :, None] - torch.arange(most, device=device)).abs()).clamp_min(0.0)
    if reduce != REDUCE[None]:
        blocks = weights.unflatten(1, (LNET_SIZE, -1))
        middle = blocks.shape[2] // 2
        weights = (blocks if reduce == REDUCE[True] else blocks[:, :, middle - 1 : middle + 1]).mean(dim=2)
    reduction = int(axes[0].reduction)
    decoded = -(-length // reduction)
    if any(axis.cells != axis.length or axis.length != decoded for axis in axes):
        step = part / cells
        start = (first + torch.arange(most, device=device) * step)[:, :, None]  # [K, cells, 1]
        pixel = torch.arange(decoded, device=device)
        overlap = torch.minimum(pixel + 1.0, start + step[:, :, None]) - torch.maximum(pixel + 0.0, start)
        weights = weights @ (overlap.clamp_min(0.0) / step[:, :, None])
    if reduction > 1:
        owner = torch.arange(length, device=device) // reduction
        pool = (torch.arange(decoded, device=device)[:, None] == owner).float()
        weights = weights @ (pool / pool.sum(dim=1, keepdim=True))
    return weights


def _groups(plans: Sequence[Plan]) -> Iterator[list[int]]:
    """Numbers of the plans that are cut together: of one clip, of one kind of frame."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for number, plan in enumerate(plans):
        groups.setdefault((plan.clip, plan.restored, plan.x.reduction, plan.size, plan.reduce), []).append(
            number
        )
    yield from groups.values()


def _lose_detail(levels: torch.Tensor, plans: Sequence[Plan]) -> torch.Tensor:
    """Reduce and enlarge again those of the pictures [P, 3, S, S] that show small faces, in place."""
    side = levels.shape[-1]
    for number, plan in enumerate(plans):
        if plan.small < 1.0:
            cells = reduced_side(side, plan.small)
            scale = side / cells
            axis = Axis(1.0, 0.0, side, cells, scale, 0.5 * scale - 0.5)
            (along,) = axis_matrix([axis], side, side, REDUCE[None], levels.device)
            levels[number] = (along @ levels[number] @ along.t()).round()
    return levels


def _degrade(levels: torch.Tensor, plans: Sequence[Plan]) -> torch.Tensor:
    """Cover, blur and compress those of the pictures [P, 3, S, S] that are to be, in place."""
    side = levels.shape[-1]
    for number, plan in enumerate(plans):
        x, y, width, height, *color = plan.cover
        if width:
            place = torch.arange(side, device=levels.device)
            # OpenCV fills a polygon through the rounded points of the ellipse: half a pixel more
            across, down = (place - x) / (width + 0.5), (place - y) / (height + 0.5)
            inside = across.square() + down.square()[:, None] <= 1.0
            levels[number] = torch.where(inside, levels.new_tensor(color)[:, None, None], levels[number])
        if plan.blur:
            blur = _blur_matrix(plan.blur, side, levels.device)
            levels[number] = (blur @ levels[number] @ blur.t()).round()
    coded = [number for number, plan in enumerate(plans) if plan.jpeg]
    if coded:
        quality = levels.new_tensor([plans[number].jpeg for number in coded])
        levels[coded] = (jpeg(levels[coded] / 255.0, quality, subsampled=False) * 255.0).round()
    return levels


def _blur_matrix(sigma: float, side: int, device: torch.device) -> torch.Tensor:
    """[side, side]: OpenCV's Gaussian blur of 8-bit images along one axis, mirrored at the border pixels."""
    radius = (round(6.0 * sigma + 1.0) | 1) // 2
    taps = torch.arange(-radius, radius + 1, device=device)
    kernel = torch.exp(-taps.square() / (2.0 * sigma**2))
    place = torch.arange(side, device=device)[:, None] + taps
    place = (side - 1) - ((place.abs() - (side - 1)).abs())
    matrix = torch.zeros(side, side, device=device)
    return matrix.scatter_add_(1, place, (kernel / kernel.sum()).expand(side, -1).contiguous())


def _count_bytes(dataset: ClipDataset, limit: int) -> int:
    """Bytes of all decoded frames; counting ends once they are above the limit."""
    total = 0
    for number in range(len(dataset)):
        clip = dataset.clips.clip(number)
        total += len(clip) * 3 * clip.meta.width * clip.meta.height
        if dataset.restored:
            total += len(clip) * clip.frame(0, version="restored").size
        if total > limit:
            break
    return total


def _free_memory(world: World) -> int:
    """Bytes that this process may count on."""
    if world.device.type == "cuda":
        return torch.cuda.mem_get_info(world.device)[0]
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return available // processes


def _lower_halves(pictures: torch.Tensor) -> torch.Tensor:
    """[B, W, T, 3, S, S] -> [B, W, 3 * T, S / 2, S], frame after frame."""
    return pictures[..., pictures.shape[-2] // 2 :, :].flatten(2, 3)


# Layout of a sample's pictures (:data:`datasets.base.LAYOUTS`) -> how rendered ones come into it.
_ARRANGE = {
    "image": lambda pictures: pictures,  # [B, 3, S, S]
    "clip": lambda pictures: pictures.transpose(1, 2),  # [B, T, 3, S, S] -> [B, 3, T, S, S]
    "halves": _lower_halves,
}
