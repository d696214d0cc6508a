"""TensorBoard output: scalars, image grids, short videos."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from videoretalking.core.constants import TRAIN_FPS

_MAX_COLUMNS = 8
_MAX_GRID_SIDE = 192  # pixels of one picture


class Board:
    """Writes one run's events.

    Args:
        folder: where TensorBoard reads them.
        first_step: events of an interrupted run from this step on are hidden.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """One curve ``group/name`` a value."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def grid(self, group: str, images: Mapping[str, torch.Tensor], step: int) -> None:
        """One picture: a row per name, a column per sample; the rows' names are in the tag."""
        self._writer.add_image(f"{group}/{', '.join(images)}", make_grid(images), step)

    def video(self, group: str, frames: torch.Tensor, step: int) -> None:
        """An animation of [T, 3, H, W] in [0, 1] at 25 frames a second (GIF, the only kind TensorBoard plays)."""
        pictures = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in _to_uint8(frames.cpu())]
        buffer = io.BytesIO()
        duration = round(1000 / TRAIN_FPS)
        pictures[0].save(
            buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0
        )
        image = Summary.Image(
            height=frames.shape[2],
            width=frames.shape[3],
            colorspace=3,
            encoded_image_string=buffer.getvalue(),
        )
        summary = Summary(value=[Summary.Value(tag=f"{group}/video", image=image)])
        self._writer._get_file_writer().add_summary(summary, step)

    def close(self) -> None:
        """Write what is pending."""
        self._writer.close()


def make_grid(images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Rows of pictures, all brought to the size of the largest (at most 192 pixels).

    Args:
        images: row name -> [N, 3, H, W] in [0, 1].

    Returns:
        [3, rows * side, columns * side] uint8 on the CPU.
    """
    side = min(_MAX_GRID_SIDE, max(max(row.shape[-2:]) for row in images.values()))
    rows = []
    for row in images.values():
        shown = F.interpolate(row[:_MAX_COLUMNS].detach().float().cpu(), (side, side), mode="area")
        rows.append(torch.cat(list(shown), dim=2))
    return _to_uint8(torch.cat(rows, dim=1))


def _to_uint8(image: torch.Tensor) -> torch.Tensor:
    """[0, 1] float (any shape) -> uint8, clipped and rounded to the nearest level."""
    return (image.float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
