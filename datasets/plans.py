"""Which pictures a sample shows, written down as numbers instead of pixels.

A data set draws frames, views and changes of color on the CPU, which takes a fraction of the time that the pixels
take. Where decoded frames stay in memory (:mod:`datasets.resident`), workers only make these plans and the device
makes the pictures. One plan is a row of numbers, so that batches of them are plain arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64
from videoretalking.core.constants import LNET_SIZE
from videoretalking.datasets.augment import ImageAugment
from videoretalking.datasets.clips import choose_reduction
from videoretalking.faces.align import MIN_SCALE, box_crop
from videoretalking.faces.types import Crop

# ``antialias`` of :func:`datasets.crops.cut_low`, None for no reduction -> a number for how the view is reduced
REDUCE = {None: 0.0, True: 1.0, False: 2.0}


@dataclass(frozen=True)
class Axis:
    """How one axis of a frame becomes one axis of a picture; all steps are linear.

    The frame is decoded at a part of its size, a part of it is reduced by areas, and the rest is read between two
    pixels, as :func:`datasets.crops.cut` does.

    Attributes:
        reduction: pixels of the frame that make one decoded pixel.
        first: decoded pixel at which the part begins.
        length: decoded pixels of the part.
        cells: pixels that the part is reduced to.
        scale: pixels of the picture per cell, negative in a mirror.
        shift: place of the first cell in the picture.
    """

    reduction: float
    first: float
    length: float
    cells: float
    scale: float
    shift: float


@dataclass(frozen=True)
class Plan:
    """One picture, as a row of numbers (:meth:`row`).

    Attributes:
        clip: index of the clip.
        frame: number of the frame.
        restored: 1 for the restored frame.
        size: side of the view in pixels.
        reduce: value of :data:`REDUCE`: how the view becomes 96 pixels, if it does.
        x: columns.
        y: rows.
        color: [12] row by row [3, 4], RGB levels and 1 -> RGB levels.
        blur: standard deviation in pixels; 0 for none.
        jpeg: quality; 0 for none.
        cover: center and half axes of an ellipse in pixels, then its color; half axes of 0 cover nothing.
        small: part of its size to which the picture is reduced before it is enlarged again; 1 for none.
    """

    clip: float
    frame: float
    restored: float
    size: float
    reduce: float
    x: Axis
    y: Axis
    color: tuple[float, ...]
    blur: float = 0.0
    jpeg: float = 0.0
    cover: tuple[float, ...] = (0.0,) * 7
    small: float = 1.0

    def row(self) -> Floats64:
        """[:data:`NUMBERS`] float64."""
        axes = [*dataclasses.astuple(self.x), *dataclasses.astuple(self.y)]
        head = [self.clip, self.frame, self.restored, self.size, self.reduce]
        return np.array(
            [*head, *axes, *self.color, self.blur, self.jpeg, *self.cover, self.small], np.float64
        )

    @staticmethod
    def from_row(row: Sequence[float]) -> Plan:
        """The plan of a row."""
        clip, frame, restored, size, reduce = row[:5]
        x, y, color = Axis(*row[5:11]), Axis(*row[11:17]), tuple(row[17:29])
        return Plan(
            clip,
            frame,
            restored,
            size,
            reduce,
            x,
            y,
            color,
            blur=row[29],
            jpeg=row[30],
            cover=tuple(row[31:38]),
            small=row[38],
        )


NUMBERS = 39


class Planner:
    """Makes plans of pictures of the frames in memory.

    Args:
        stored: (width, height) of each clip's frames.
        restored: the same of its restored frames, equal to ``stored`` where there are none.
    """

    def __init__(self, stored: Sequence[tuple[int, int]], restored: Sequence[tuple[int, int]]) -> None:
        self.stored = stored
        self.restored = restored

    def plan(
        self,
        clip: int,
        frame: int,
        view: Crop,
        changes: ImageAugment,
        antialias: bool | None,
        shown: tuple[npt.ArrayLike, tuple[int, int]],
        restored: bool = False,
    ) -> Floats64:
        """The row of a picture in changed light and color.

        Args:
            clip: its index; this and the next four as in :meth:`ClipDataset.take`.
            frame: its number.
            view: the crop.
            changes: of light and color.
            antialias: how the view is reduced.
            shown: what the frame shows (:meth:`PreparedClip.view`).
            restored: whether it is the restored frame.

        Raises:
            ValueError: the view is turned, which rows and columns by themselves cannot show.
        """
        if abs(view.matrix[0, 1]) > 1e-9 or abs(view.matrix[1, 0]) > 1e-9:
            raise ValueError("a turned view cannot be planned")
        window, meant = shown
        reduction = choose_reduction(1.0 / view.after(box_crop(window, meant)).scale)
        width, height = (-(-side // reduction) for side in (self.restored if restored else self.stored)[clip])
        inside = view.after(box_crop(window, (width, height)))  # of what was decoded
        axes = [
            _axis(reduction, side, inside.matrix[axis, axis], inside.matrix[axis, 2], inside.scale, view.size)
            for axis, side in enumerate((width, height))
        ]
        color = changes.color_matrix(255.0).ravel().tolist()
        size, reduce = view.size[0], REDUCE[antialias]
        return Plan(
            clip, frame, float(restored), size, reduce, axes[0], axes[1], tuple(color), small=changes.small
        ).row()


def degrade_plan(row: Floats64, changes: ImageAugment) -> Floats64:
    """The plan of a covered, blurred and compressed picture (:meth:`ImageAugment.degrade`)."""
    plan = Plan.from_row(row.tolist())
    side = plan.size if plan.reduce == REDUCE[None] else LNET_SIZE
    cover = (0.0,) * 7
    if changes.cover is not None:
        x, y, width, height = changes.cover
        axes = (max(1, round(width * side / 2)), max(1, round(height * side / 2)))
        cover = (round(x * side), round(y * side), *axes, *changes.cover_color)
    return dataclasses.replace(plan, blur=changes.blur, jpeg=changes.jpeg, cover=cover).row()


def _axis(
    reduction: int, side: int, scale: float, shift: float, shrink: float, size: tuple[int, int]
) -> Axis:
    """An axis of a view whose pixels are ``scale`` times the decoded ones plus ``shift``.

    As :func:`faces.align.warp` does, views that shrink much are reduced by areas first.
    """
    if shrink >= MIN_SCALE:
        return Axis(reduction, 0.0, side, side, scale, shift)
    ends = sorted([(-1.0 - shift) / scale, (size[0] - shift) / scale])
    margin = 2.0 / shrink
    first = float(np.clip(np.floor(ends[0] - margin), 0, side - 1))
    last = float(np.clip(np.ceil(ends[1] + margin), first + 1, side))
    cells = max(round((last - first) * shrink), 1)
    step = (last - first) / cells  # decoded pixels in a cell
    # decoded pixel = first - 0.5 + (cell + 0.5) * step
    return Axis(
        reduction, first, last - first, cells, scale * step, scale * (first - 0.5 + 0.5 * step) + shift
    )
