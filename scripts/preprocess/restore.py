"""Step 7: E-Net's high-resolution targets, the face of every frame restored by GPEN (paper, section 4.1.3).

Each frame is enlarged until its face fills E-Net's 384 pixels, and the restored face is put into it. Needs the
converted GPEN weights. Without them skip this step and train with ``targets: original``, which takes the
original crops as targets; that only makes sense where the sources are sharp.

    python -m scripts.preprocess.restore --work data/work --root data/prepared
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from videoretalking.core.arrays import Image8
from videoretalking.core.constants import ENET_SIZE
from videoretalking.core.devices import choose_device
from videoretalking.core.errors import run_command
from videoretalking.datasets.clips import ClipWriter, PreparedClip
from videoretalking.faces.align import enhancer_crop, extract, place
from videoretalking.faces.types import Crop
from videoretalking.models.catalog import load_network
from videoretalking.pipeline.stages.blend import fade_window
from videoretalking.scripts.preprocess.clips import ClipPlan, all_plans
from videoretalking.scripts.preprocess.runner import Outcome, run_step, step_parser

_FADE = 0.08  # share of the restored square over which it runs out into the frame


def enlargement(clip: PreparedClip) -> int:
    """Whole factor by which the clip's frames have to grow for the smallest face box to fill E-Net."""
    side = float((clip.boxes[:, 2:] - clip.boxes[:, :2]).max(axis=1).min())
    return max(1, int(np.ceil(ENET_SIZE / side)))


def restore_frame(
    frame: Image8, landmarks: npt.NDArray[np.float32], restorer: nn.Module, factor: int
) -> Image8:
    """Enlarge one frame and restore its face.

    Args:
        frame: [H, W, 3] RGB.
        landmarks: [68, 2] pixels of the frame.
        restorer: GPEN, aligned face in [0, 1] -> restored face.
        factor: of the enlargement.

    Returns:
        [factor * H, factor * W, 3].
    """
    height, width = frame.shape[:2]
    large = cv2.resize(frame, (factor * width, factor * height), interpolation=cv2.INTER_CUBIC)
    crop: Crop = enhancer_crop((landmarks + 0.5) * factor - 0.5)
    face = torch.from_numpy(extract(large, crop)).permute(2, 0, 1)[None].float() / 255.0
    with torch.inference_mode():
        restored = restorer(face.to(next(restorer.parameters()).device)).float().clamp(0.0, 1.0)
    pixels = restored[0].permute(1, 2, 0).cpu().numpy() * 255.0
    weight = fade_window(*crop.size, _FADE)[..., None]
    placed = place(
        np.concatenate([pixels, weight], axis=2).astype(np.float32), crop, (large.shape[1], large.shape[0])
    )
    if placed is None:
        return np.asarray(large, dtype=np.uint8)
    region = large[placed.rows, placed.columns].astype(np.float32)
    share = placed.pixels[..., 3:] * placed.coverage[..., None]
    region += share * (placed.pixels[..., :3] - region)
    large[placed.rows, placed.columns] = np.rint(region).clip(0, 255)
    return np.asarray(large, dtype=np.uint8)


def restore_clip(root: Path, device: str, plan: ClipPlan) -> None:
    """Write the restored frames of one clip."""
    clip = PreparedClip(root / plan.name)
    restorer = _restorer(device)
    factor = enlargement(clip)

    def frames() -> Iterator[Image8]:
        for index in range(len(clip)):
            yield restore_frame(clip.frame(index), clip.landmarks[index], restorer, factor)

    ClipWriter(clip.folder).write_frames(frames(), "restored")


@cache
def _restorer(device: str) -> nn.Module:
    """One for each worker process."""
    return load_network("gpen", device=choose_device(device))


def run(work: Path, root: Path, device: str, processes: int) -> Outcome:
    """Restore all clips."""
    _restorer(device)  # a missing file is reported once, before any work
    return run_step(
        "restore",
        all_plans(work),
        partial(restore_clip, root, device),
        lambda plan: (root / plan.name / "restored_index.npy").is_file(),
        work,
        processes,
    )


def main() -> None:
    """Command line of step 7."""
    parser = step_parser("Step 7: restored high-resolution frames")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    run(arguments.work, arguments.root, arguments.device, arguments.processes)


if __name__ == "__main__":
    run_command(main)
