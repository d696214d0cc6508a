"""Command-line flags of the main job, among them those of the published program and of Wav2Lip.

Every flag may be written with dashes or underscores and in any case of letters, so command lines made for
those programs run here. Flags of theirs that have nothing left to do are accepted and explained in one line.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from videoretalking.core.config import from_dict, load_config, to_dict
from videoretalking.core.errors import UserError
from videoretalking.faces.detect import backend_names, check_backend
from videoretalking.pipeline.config import PRESETS, InferenceConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One parsed command line.

    Attributes:
        face: video or image with the face; None with ``batch``.
        audio: file with the speech; None with ``batch``.
        outfile: where the result goes.
        batch: CSV file with one job a line.
        report: where the per-frame report goes; None writes none.
        config: all settings.
    """

    face: str | None
    audio: str | None
    outfile: str
    batch: str | None
    report: str | None
    config: InferenceConfig


@dataclass(frozen=True)
class Flag:
    """A flag that sets one config value.

    Attributes:
        names: spellings, dashes only.
        key: dotted config key that receives the value.
        help: one line.
        kind: type of each value; ``bool`` flags may be written bare or with true/false.
        count: number of values.
        value: value that a bare flag stores instead of True.
    """

    names: tuple[str, ...]
    key: str
    help: str
    kind: type = str
    count: int = 1
    value: Any = True


FLAGS = (
    Flag(("exp-img",), "render.expression", "neutral, smile, an image of a face, or a coefficient file"),
    Flag(("exp-blend",), "render.expression_blend", "0 neutral .. 1 the template (smile by default)", float),
    Flag(("one-shot",), "render.one_shot", "drive the first frame of each shot", bool),
    Flag(("up-face",), "render.upper_face", "original, sad, angry or surprise"),
    Flag(("face-index",), "render.face", "number of the face to edit, largest, or all"),
    Flag(("face-backend",), "analysis.backend", ", ".join(backend_names())),
    Flag(("pad",), "render.pad", "picture shorter than speech: loop, pingpong, hold or cut"),
    Flag(("no-parse",), "render.parse", "mask from landmarks, not by a network", bool, value=False),
    Flag(("restore",), "render.restore", "strength of the mouth restorer, 0..1", float),
    Flag(("color-match",), "render.color_match", "strength of the color match, 0..1", float),
    Flag(("no-neutralize",), "render.neutralize", "leave D-Net out", bool, value=False),
    Flag(("no-enhance",), "render.enhance", "leave E-Net out", bool, value=False),
    Flag(("no-silence-gate",), "render.silence_gate", "let the mouth move in silence", bool, value=False),
    Flag(("weights",), "weights.family", "auto, official, demo, or a folder of checkpoints"),
    Flag(("dnet-path",), "weights.dnet", "checkpoint of D-Net"),
    Flag(("lnet-path", "checkpoint-path"), "weights.lnet", "checkpoint of L-Net, or of a Wav2Lip generator"),
    Flag(("enet-path",), "weights.enet", "checkpoint of E-Net"),
    Flag(("face3d-net-path",), "weights.reconnet", "checkpoint of the 3DMM regressor"),
    Flag(("nosmooth", "no-smooth"), "analysis.smooth", "do not smooth landmarks", bool, value=False),
    Flag(("static",), "analysis.still", "use the first frame as a still image", bool),
    Flag(("fps",), "analysis.still_fps", "frames a second for a still image", float),
    Flag(("crop",), "analysis.region", "look for faces in this part only: top bottom left right", int, 4),
    Flag(("codec",), "output.codec", "h264, hevc, vp9, av1 or ffv1"),
    Flag(("quality", "crf"), "output.quality", "constant rate factor, lower is better", int),
    Flag(("device",), "runtime.device", "auto, cpu, cuda, cuda:N or mps"),
    Flag(("dtype",), "runtime.dtype", "auto, float32, bfloat16, float16 or int8"),
    Flag(
        ("batch-size", "lnet-batch-size", "wav2lip-batch-size"),
        "runtime.batch_size",
        "faces in one call of a network",
        int,
    ),
    Flag(("compile",), "runtime.compile", "torch.compile the networks", bool),
    Flag(("cache-dir", "tmp-dir"), "runtime.cache_dir", "folder of the face tracks"),
    Flag(("refresh", "re-preprocess"), "runtime.refresh", "analyze again, ignore cached face tracks", bool),
)

# Flags of the other programs with nothing left to do: number of values (None: optional), what replaces them.
REPLACED: Mapping[str, tuple[int | None, str]] = {
    "pads": (4, "the face box follows the landmarks and always includes the chin"),
    "box": (4, "faces are tracked in every frame; --crop limits where they are looked for"),
    "face-det-batch-size": (1, "faces are detected once per shot and tracked in between"),
    "img-size": (1, "E-Net's size is fixed by its checkpoint"),
    "without-rl1": (None, "--up-face acts by itself"),
    "resize-factor": (1, "frames keep their size, detection scales them by itself"),
    "rotate": (None, "rotation metadata is applied by itself"),
}


def parse(arguments: Sequence[str] | None = None) -> Job:
    """Read a command line.

    Defaults are outranked by the file of ``--config``, that by ``--preset``, and that by single flags.

    Args:
        arguments: without the program's name; None reads ``sys.argv``.

    Raises:
        UserError: unknown flag, missing or wrong value.
    """
    arguments = [_normal(item) for item in (sys.argv[1:] if arguments is None else arguments)]
    values = vars(_parser().parse_args(arguments))
    for name in REPLACED:
        if values.pop(_dest(name), None) is not None:
            logger.info("--%s has nothing to do here: %s", name, REPLACED[name][1])
    config = _config(values)
    check_backend(config.analysis.backend)
    face, audio, batch = (values.get(key) for key in ("face", "audio", "batch"))
    if batch is None and (face is None or audio is None):
        raise UserError("--face and --audio are needed (or --batch list.csv); see --help")
    if batch is not None and (face is not None or audio is not None):
        raise UserError("--batch takes face and audio from its list; leave --face and --audio out")
    return Job(
        face, audio, values.get("outfile") or "results/output.mp4", batch, values.get("report"), config
    )


def _config(values: Mapping[str, Any]) -> InferenceConfig:
    settings = to_dict(load_config(InferenceConfig, values.get("config")))
    preset = values.get("preset", "balanced")
    if preset not in PRESETS:
        raise UserError(f"--preset {preset} does not exist, choose {', '.join(PRESETS)}")
    for key, value in PRESETS[preset].items():
        _set(settings, key, value)
    for flag in FLAGS:
        if _dest(flag.names[0]) in values:
            _set(settings, flag.key, values[_dest(flag.names[0])])
    return from_dict(InferenceConfig, settings, where="command line")


def _set(settings: dict[str, Any], key: str, value: Any) -> None:
    group, name = key.split(".")
    settings[group][name] = value


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="inference.py",
        description="Make the face of a video speak the words of an audio file.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--face", help="video or image with the face")
    parser.add_argument("--audio", help="speech: any file with sound")
    parser.add_argument("--outfile", help="result (default results/output.mp4)")
    parser.add_argument("--batch", help="CSV file with the columns face, audio, outfile: one job a line")
    parser.add_argument("--report", help="write a per-frame report (JSON)")
    parser.add_argument("--config", help="YAML file with settings, see configs/inference.yaml")
    parser.add_argument("--preset", help=", ".join(PRESETS))
    for flag in FLAGS:
        names, dest = [f"--{name}" for name in flag.names], _dest(flag.names[0])
        if flag.kind is bool:
            read = _truth if flag.value else _negated
            parser.add_argument(
                *names, dest=dest, help=flag.help, nargs="?", type=read, const=flag.value, metavar="BOOL"
            )
        else:
            nargs = flag.count if flag.count > 1 else None
            metavar = flag.kind.__name__.upper()
            parser.add_argument(
                *names, dest=dest, help=flag.help, nargs=nargs, type=flag.kind, metavar=metavar
            )
    for name, (count, _) in REPLACED.items():
        if count is None:
            parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
        else:
            parser.add_argument(f"--{name}", nargs=count, help=argparse.SUPPRESS)
    return parser


def _normal(argument: str) -> str:
    """``--LNet_batch_size=4`` -> ``--lnet-batch-size=4``; values stay as they are."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-").lower() + equals + value


def _dest(name: str) -> str:
    return name.replace("-", "_")


def _truth(text: str) -> bool:
    if text.lower() in ("true", "yes", "1", "on"):
        return True
    if text.lower() in ("false", "no", "0", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _negated(text: str) -> bool:
    return not _truth(text)
