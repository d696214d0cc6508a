"""Step 7: E-Net's high-resolution targets, the face of every frame restored by GPEN (paper, section 4.1.3).

What is stored is what training reads: the face box at E-Net's 384 pixels with a quarter of it on every side for
crop jitter, 576 pixels in all, with the restored face put into the enlarged frame. It needs GPEN's weights.
Without them skip this step and train with ``targets: original``, which takes the original crops as targets; that
only makes sense where the sources are sharp.

    python -m scripts.preprocess.restore --work data/work --root data/prepared
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.devices import choose_device
from videoretalking.core.errors import run_command
from videoretalking.datasets.clips import RESTORED_SIZE, ClipWriter, PreparedClip
from videoretalking.faces.align import box_crop, enhancer_crop, extract, place
from videoretalking.faces.types import Crop
from videoretalking.models.catalog import load_network
from videoretalking.pipeline.stages.blend import fade_window
from videoretalking.scripts.preprocess.clips import ClipPlan, all_plans
from videoretalking.scripts.preprocess.crew import Crew, read_crew
from videoretalking.scripts.preprocess.runner import Outcome, run_step, step_parser

_FADE = 0.08  # share of the restored square over which it runs out into the frame
_MARGIN = 0.25  # of the face box on every side
_BATCH = 8  # faces restored at once


def restored_windows(boxes: Floats32) -> Floats32:
    """The part of each frame that is stored: [N, 4] face boxes -> [N, 4] boxes with their margin, stored pixels."""
    margin = _MARGIN * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)


def restore_frames(
    frames: Sequence[Image8], landmarks: Sequence[npt.ArrayLike], windows: Floats32, restorer: nn.Module
) -> list[Image8]:
    """Restore the faces of N frames in one batch.

    Args:
        frames: N times [H, W, 3] RGB.
        landmarks: N times [68, 2] pixels of the frame.
        windows: [N, 4] the part of each frame that is wanted, in its pixels.
        restorer: GPEN, aligned faces in [0, 1] -> restored faces.

    Returns:
        N times [576, 576, 3]: the enlarged windows with the restored faces in them.
    """
    crops = [enhancer_crop(points) for points in landmarks]
    faces = np.stack([_enlarge(frame, crop) for frame, crop in zip(frames, crops, strict=True)])
    device = next(restorer.parameters()).device
    with torch.inference_mode():
        batch = torch.from_numpy(faces).to(device).permute(0, 3, 1, 2).float() / 255.0
        restored = restorer(batch).float().clamp(0.0, 1.0).permute(0, 2, 3, 1).cpu().numpy() * 255.0
    views = [box_crop(window, (RESTORED_SIZE, RESTORED_SIZE)) for window in windows]
    return [
        _insert(_enlarge(frame, view), face, crop.after(view))
        for frame, view, face, crop in zip(frames, views, restored, crops, strict=True)
    ]


def _enlarge(frame: Image8, crop: Crop) -> Image8:
    """A crop whose pixels are interpolated by cubics where it enlarges."""
    if crop.scale < 1.0:
        return extract(frame, crop)
    large = cv2.warpAffine(
        frame, crop.matrix, crop.size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(large, dtype=np.uint8)


def _insert(image: Image8, face: Floats32, crop: Crop) -> Image8:
    """Put a face [h, w, 3] where ``crop`` would take it from, running out into the image [H, W, 3]."""
    weight = fade_window(*crop.size, _FADE)[..., None]
    patch = np.concatenate([face, weight], axis=2).astype(np.float32)
    placed = place(patch, crop, (image.shape[1], image.shape[0]))
    if placed is None:
        return image
    region = image[placed.rows, placed.columns].astype(np.float32)
    share = placed.pixels[..., 3:] * placed.coverage[..., None]
    region += share * (placed.pixels[..., :3] - region)
    image[placed.rows, placed.columns] = np.rint(region).clip(0, 255)
    return image


def restore_clip(root: Path, restorer: nn.Module, plan: ClipPlan) -> None:
    """Write the restored frames of one clip."""
    clip = PreparedClip(root / plan.name)
    windows = restored_windows(clip.boxes)

    def images() -> Iterator[Image8]:
        for first in range(0, len(clip), _BATCH):
            points = list(clip.landmarks[first : first + _BATCH])
            frames = [clip.frame(index) for index in range(first, first + len(points))]
            yield from restore_frames(frames, points, windows[first : first + _BATCH], restorer)

    writer = ClipWriter(clip.folder)
    writer.write_per_frame("restored_windows", windows)
    writer.write_frames(images(), "restored")


def build(root: Path, device: str) -> Callable[[ClipPlan], None]:
    """The work of one process, with its GPEN."""
    return partial(restore_clip, root, load_network("gpen", device=choose_device(device)))


def run(work: Path, root: Path, crew: Crew) -> Outcome:
    """Restore all clips."""
    return run_step(
        "restore",
        all_plans(work),
        partial(build, root),
        lambda plan: (root / plan.name / "restored_index.npy").is_file(),
        work,
        crew,
        networks=True,
    )


def main() -> None:
    """Command line of step 7."""
    parser = step_parser("Step 7: restored high-resolution frames", networks=True)
    arguments = parser.parse_args()
    run(arguments.work, arguments.root, read_crew(arguments))


if __name__ == "__main__":
    run_command(main)
