"""Decoded frames on the device of the networks: their planes go up, and become RGB there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from videoretalking.core.devices import to_device
from videoretalking.media.color import PlaneLayout, Planes
from videoretalking.media.color_torch import Place, chroma_place, planes_to_tensor
from videoretalking.media.picture import Picture

# Of frames that go up, are marked or come back together, 8 in 1080p. An operation on all of them is launched once,
# and the threads that launch are what limits pass 2 on a GPU. But temporaries have 12 bytes a pixel each, and many
# live at a time: those of a whole chunk of large frames would take gigabytes from the networks.
_PIXELS_TOGETHER = 8 * 1920 * 1080


def upload_pictures(frames: Sequence[Picture], device: torch.device) -> list[torch.Tensor]:
    """[H, W, 3] uint8 RGB of each frame on a device, without waiting for it.

    They have the very bytes of :attr:`media.picture.Picture.image`.

    Args:
        frames: of any sizes.
        device: where.
    """
    images: dict[int, torch.Tensor] = {}
    alike: dict[tuple[PlaneLayout, Place], list[tuple[int, Planes]]] = {}
    for number, frame in enumerate(frames):
        planes = frame.planes()
        place = None if planes is None else chroma_place(planes, device)
        if planes is None or place is None:
            images[number] = to_device(torch.from_numpy(frame.image), device)
        else:
            alike.setdefault((planes.layout, place), []).append((number, planes))
    for (layout, place), items in alike.items():
        for group in groups(len(items), layout.height, layout.width):
            numbers, together = zip(*items[group], strict=True)
            images |= zip(numbers, _colored(together, layout, place, device), strict=True)
    return [images[number] for number in range(len(frames))]


def groups(count: int, height: int, width: int) -> Iterator[slice]:
    """Which of so many frames of one size operations on whole frames take together; bounds their pixels."""
    step = max(1, _PIXELS_TOGETHER // (height * width))
    return (slice(first, first + step) for first in range(0, count, step))


def _colored(
    frames: Sequence[Planes], layout: PlaneLayout, place: Place, device: torch.device
) -> torch.Tensor:
    """[N, H, W, 3] uint8 RGB of frames that come together."""
    pinned = device.type == "cuda"
    host = torch.empty(len(frames), layout.num_samples, dtype=torch.uint8, pin_memory=pinned)
    for planes, samples in zip(frames, host.numpy(), strict=True):
        planes.copy_to(samples)
    return planes_to_tensor(host.to(device, non_blocking=True), layout, place)
