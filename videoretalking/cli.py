"""One command for everything: ``videoretalking dub``, ``videoretalking train`` ..., from any folder.

A command is a module with a ``main``, imported when it is called, so that ``--help`` needs no PyTorch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from videoretalking import __version__
from videoretalking.core.commands import CONSOLE, near_word
from videoretalking.core.errors import UserError, run_command


@dataclass(frozen=True)
class Command:
    """Where a command is and what it does.

    Attributes:
        module: below ``videoretalking``.
        help: one line.
    """

    module: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "dub": Command("pipeline.cli", "make the face of a video speak the words of an audio file"),
    "demo": Command("scripts.demo", "dub the bundled examples into ./results"),
    "detect": Command("scripts.detect_marks", "look for the marks of this project in files"),
    "train": Command("train.__main__", "train one network from a config"),
    "evaluate": Command("scripts.evaluate", "score a method over a list of pairs"),
    "reproduce": Command("scripts.reproduce", "reproduce the tables of the paper"),
    "pairs": Command("scripts.make_pairs", "draw the pairs of an evaluation"),
    "check-sync": Command("scripts.check_sync", "ask the sync measures about shifted sound"),
    "check-precision": Command("scripts.check_precision", "compare gradients in bfloat16 and in float32"),
    "user-study": Command("scripts.user_study", "make the page of a user study and count its answers"),
    "preprocess": Command("scripts.preprocess.__main__", "all steps from raw videos to prepared clips"),
    "preprocess sources": Command("scripts.preprocess.sources", "step 1: list the videos of a data set"),
    "preprocess tracks": Command("scripts.preprocess.tracks", "step 2: track faces"),
    "preprocess clips": Command("scripts.preprocess.clips", "step 3: cut clips"),
    "preprocess audio": Command("scripts.preprocess.audio", "step 4: spectrograms"),
    "preprocess coefficients": Command("scripts.preprocess.coefficients", "step 5: 3DMM coefficients"),
    "preprocess offsets": Command("scripts.preprocess.offsets", "step 6: reject clips out of sync"),
    "preprocess restore": Command("scripts.preprocess.restore", "step 7: restored targets for E-Net"),
    "preprocess splits": Command("scripts.preprocess.splits", "step 8: list clips, split by person"),
    "preprocess neutral": Command(
        "scripts.preprocess.neutral", "step 9: frames as D-Net renders them, for L-Net"
    ),
    "preprocess label": Command("scripts.preprocess.label_landmarks", "label faces by another tool"),
    "synthetic-data": Command("datasets.synthetic", "a tiny prepared data set, for configs/debug"),
    "download": Command("scripts.download_checkpoints", "fetch the released checkpoints"),
    "convert": Command("scripts.convert_official", "convert the released checkpoints"),
    "push": Command("scripts.push", "push trained weights to the Hugging Face hub"),
    "parity": Command("scripts.parity.__main__", "check exactness against a kit of golden values"),
    "benchmark": Command("scripts.benchmark.__main__", "measure speed and memory"),
    "compare": Command("scripts.compare", "source and result side by side, from a report"),
    "contact-sheet": Command("scripts.make_contact_sheet", "lay frames of a video out in one picture"),
    "train-demo": Command("scripts.train_demo", "train the bundled weights from raw clips"),
    "pack-demo": Command("scripts.pack_demo", "prepared clips as one small folder, and back"),
    "measure-sound-marks": Command(
        "scripts.measure_sound_marks", "measure what the mark of the sound survives"
    ),
    "measure-demo": Command("scripts.measure_demo", "measure the bundled weights"),
    "measure-marks": Command("scripts.measure_marks", "measure what the marks survive"),
    "gpu-check": Command("scripts.gpu_check", "compare a GPU with the CPU, measure and profile it"),
    "face-model": Command("scripts.build_face_model", "build the bundled face model from labels"),
    "example": Command("scripts.make_example", "draw the bundled example anew"),
}


def main() -> None:
    """Entry point of the console command; ends the process with the status of the subcommand."""
    program = f"python -m {CONSOLE}" if sys.argv[0].endswith("__main__.py") else CONSOLE
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(program), file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    if arguments[0] in ("--version", "version"):
        print(f"{CONSOLE} {__version__}")
        return
    run_command(lambda: _run(arguments))


def overview(program: str = CONSOLE) -> str:
    """All commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {program} COMMAND [argument ...]",
            "",
            "VideoReTalking: give it a talking-head video and a speech recording, the mouth follows the speech.",
            "",
            "commands:",
            *lines,
            "",
            f"{program} COMMAND --help lists the arguments of a command, {program} --version the version.",
        ]
    )


def find_command(arguments: list[str]) -> tuple[str, list[str]]:
    """The name of the command, which may be two words, and the arguments behind it.

    Raises:
        UserError: there is no such command; the message names the nearest if one is near.
    """
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in COMMANDS:
            return name, arguments[words:]
    near = near_word(arguments[0], COMMANDS)
    advice = f", did you mean {near!r}?" if near is not None else ";"
    raise UserError(f"unknown command {arguments[0]!r}{advice} see {CONSOLE} --help")


def _run(arguments: list[str]) -> int | None:
    name, rest = find_command(arguments)
    sys.argv = [f"{CONSOLE} {name}", *rest]
    status: int | None = import_module(f"videoretalking.{COMMANDS[name].module}").main()
    return status
