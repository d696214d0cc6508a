"""TensorBoard output: scalars, image grids, short videos."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from videoretalking.core.constants import TRAIN_FPS

_MAX_COLUMNS = 8
_MAX_WIDTH = (
    1536  # pixels of a grid: pictures keep their size, so that sharpness can be judged; fewer are shown
)


class Board:
    """Writes one run's events.

    Args:
        folder: where TensorBoard reads them.
        first_step: events of an interrupted run from this step on are hidden.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def settings(
        self, config: Mapping[str, Any], losses: Iterable[str], adversarial: Iterable[str], step: int
    ) -> None:
        """The resolved config as text, and as hyperparameters beside the curves by which runs are compared.

        Args:
            config: nested settings.
            losses: names of the losses, whose curves ``train/name`` and ``val/name`` belong to the hyperparameters.
            adversarial: those of the discriminator, which no validation computes.
            step: first step of the run.
        """
        text = yaml.safe_dump(dict(config), sort_keys=False)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()), step)
        losses = list(losses)
        names = [f"train/{name}" for name in ("total", *losses, *adversarial)]
        curves = dict.fromkeys(names + [f"val/{name}" for name in losses], 0.0)
        writer = self._writer._get_file_writer()
        for summary in hparams(dict(_flatten(config)), curves):
            writer.add_summary(summary)

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
    """Rows of pictures, all brought to the size of the largest, which keeps its own.

    Args:
        images: row name -> [N, 3, H, W] in [0, 1].

    Returns:
        [3, rows * side, columns * side] uint8 on the CPU; at most eight columns, and fewer of large pictures.
    """
    side = max(max(row.shape[-2:]) for row in images.values())
    columns = max(1, min(_MAX_COLUMNS, _MAX_WIDTH // side))
    rows = []
    for row in images.values():
        shown = F.interpolate(row[:columns].detach().float().cpu(), (side, side), mode="area")
        rows.append(torch.cat(list(shown), dim=2))
    return _to_uint8(torch.cat(rows, dim=1))


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | float | bool]]:
    """Dotted keys and plain values of nested settings; lists become text."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, (str, int, float, bool)) else str(value)


def _to_uint8(image: torch.Tensor) -> torch.Tensor:
    """[0, 1] float (any shape) -> uint8, clipped and rounded to the nearest level."""
    return (image.float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
