"""Step 5: 3DMM rows of every clip, measured in D-Net's view of it.

With the released regressor's weights they come from pixels, otherwise from the landmarks by fitting the bundled
face model (``--reconstructor`` names one explicitly). All clips of a data set must use the same: another one is
refused.

    python -m scripts.preprocess.coefficients --work data/work --root data/prepared
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import DNET_SIZE
from videoretalking.core.devices import choose_device
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.core.hashing import file_hash
from videoretalking.core.locations import checkpoint_folder, find_weights
from videoretalking.datasets.clips import ClipWriter, PreparedClip
from videoretalking.faces.align import box_crop, extract
from videoretalking.faces.reconstruct import FitReconstructor, NetworkReconstructor, choose_reconstructor
from videoretalking.scripts.preprocess.clips import ClipPlan, all_plans
from videoretalking.scripts.preprocess.crew import Crew, read_crew
from videoretalking.scripts.preprocess.runner import Outcome, Rejected, run_step, step_parser

_BATCH = 32  # frames measured at once by the regressor
_RECONSTRUCTOR = "reconstructor.txt"  # in the work folder: what measured, and a digest of its weights


def clip_rows(clip: PreparedClip, reconstructor: NetworkReconstructor | FitReconstructor) -> Floats32:
    """Rows of a clip.

    Args:
        clip: with frames and landmarks.
        reconstructor: the regressor or the fit.

    Returns:
        [N, 262] float32.
    """
    view = box_crop(clip.meta.dnet_window, (DNET_SIZE, DNET_SIZE))
    landmarks = view.to_crop(clip.landmarks)
    if isinstance(reconstructor, FitReconstructor):
        return reconstructor.rows(landmarks, view.size)
    rows = []
    for first in range(0, len(clip), _BATCH):
        points = landmarks[first : first + _BATCH]
        views = [extract(clip.frame(index), view) for index in range(first, first + len(points))]
        rows.append(reconstructor.rows(views, points))
    return np.concatenate(rows)


def measure_clip(root: Path, reconstructor: NetworkReconstructor | FitReconstructor, plan: ClipPlan) -> None:
    """Write the rows of one clip."""
    clip = PreparedClip(root / plan.name)
    rows = clip_rows(clip, reconstructor)
    if not np.isfinite(rows).all():
        raise Rejected("no fit")
    ClipWriter(clip.folder).write_per_frame("rows", rows)


def hold_reconstructor(work: Path, name: str) -> None:
    """Note in the work folder what measures its clips; rows of two reconstructors mean different things.

    Raises:
        UserError: something else measured before.
    """
    network = find_weights(f"{NetworkReconstructor.name}.safetensors")
    fits = name == FitReconstructor.name or (name == "auto" and network is None)
    weights = checkpoint_folder("demo") / "face_model.safetensors" if fits else network
    if weights is None:
        return  # whoever loads it says so
    used = f"{FitReconstructor.name if fits else NetworkReconstructor.name} {file_hash(weights)[:16]}"
    path = work / _RECONSTRUCTOR
    before = path.read_text(encoding="utf-8") if path.is_file() else used
    if before != used:
        raise UserError(
            f"the rows of {work} were measured by {before}, this run would take {used}: give --reconstructor "
            f"{before.partition(' ')[0]} and its weights, or delete {path} and the rows.npy of all clips"
        )
    with atomic_path(path) as temporary:
        temporary.write_text(used, encoding="utf-8")


def build(root: Path, name: str, device: str) -> Callable[[ClipPlan], None]:
    """The work of one process, with its reconstructor."""
    return partial(measure_clip, root, choose_reconstructor(name, choose_device(device)))


def run(work: Path, root: Path, reconstructor: str, crew: Crew) -> Outcome:
    """Measure all clips with the named reconstructor.

    Raises:
        UserError: earlier runs measured with another one, or with other weights.
    """
    hold_reconstructor(work, reconstructor)
    return run_step(
        "coefficients",
        all_plans(work),
        partial(build, root, reconstructor),
        lambda plan: (root / plan.name / "rows.npy").is_file(),
        work,
        crew,
        networks=reconstructor != "fit" and find_weights("reconnet.safetensors") is not None,
    )


def main() -> None:
    """Command line of step 5."""
    parser = step_parser("Step 5: 3DMM rows", networks=True)
    parser.add_argument("--reconstructor", choices=["auto", "reconnet", "fit"], default="auto")
    arguments = parser.parse_args()
    run(arguments.work, arguments.root, arguments.reconstructor, read_crew(arguments))


if __name__ == "__main__":
    run_command(main)
