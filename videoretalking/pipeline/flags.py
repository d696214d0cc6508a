"""Command-line flags of the main job, among them those of the published program and of Wav2Lip.

Every flag may be written with dashes or underscores and in any case of letters, so command lines made for
those programs run here. Flags of theirs that have nothing left to do are accepted and explained in one line.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from videoretalking import __version__
from videoretalking.core.commands import CommandParser, program_name
from videoretalking.core.config import from_dict, load_config, to_dict
from videoretalking.core.errors import UserError
from videoretalking.core.locations import find_file
from videoretalking.faces.detect import backend_names
from videoretalking.media.formats import CODECS, WORST_QUALITY
from videoretalking.pipeline.config import PRESETS, InferenceConfig, MarkMode, Pad, UpperFace

logger = logging.getLogger(__name__)

DEFAULT_OUTFILE = "results/output.mp4"
DEFAULT_PRESET = "balanced"

_DEFAULTS = to_dict(InferenceConfig())
_OF_FAMILY = "that of --weights"
_METAVARS: Mapping[type, str] = {int: "N", float: "X"}
_EXAMPLES = """examples:
  {program} --face examples/portrait.jpg --audio examples/speech.wav --outfile results/demo.mp4
  {program} --face talk.mp4 --audio dub.wav --outfile dubbed.mp4 --preset best --report report.json
  {program} --batch jobs.csv --report reports

Flags may be written with dashes or underscores; those of the published program and of Wav2Lip work too."""


@dataclass(frozen=True)
class CommandLine:
    """One parsed command line.

    Attributes:
        face: video or image with the face; None with ``batch``.
        audio: file with the speech; None with ``batch``.
        outfile: where the result goes.
        batch: CSV file with one job a line.
        report: where the per-frame report goes; None writes none.
        config: all settings.
        quiet: say only warnings and errors.
        cluster: whether a Ray cluster runs the jobs of ``batch``.
    """

    face: str | None
    audio: str | None
    outfile: str
    batch: str | None
    report: str | None
    config: InferenceConfig
    quiet: bool = False
    cluster: bool = False


@dataclass(frozen=True)
class Rule:
    """What the value of a flag may be, whether it comes from the command line or from a settings file.

    Attributes:
        words: the allowed values, for help and errors.
        accepts: whether a value is one of them.
    """

    words: str
    accepts: Callable[[Any], bool]


def _between(low: float, high: float) -> Rule:
    return Rule(f"{low:g} to {high:g}", lambda value: low <= value <= high)  # false for NaN


def _one_of(*names: str) -> Rule:
    return Rule(", ".join(names), lambda value: value in names)


def _matching(words: str, pattern: str) -> Rule:
    return Rule(words, lambda value: re.fullmatch(pattern, value) is not None)


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
        rule: what is allowed; None allows everything of the type.
        default: what the help says where the config's default is None.
        metavar: what the help writes for the value; ``FILE`` must exist, or be the bare name of a network.
    """

    names: tuple[str, ...]
    key: str
    help: str
    kind: type = str
    count: int = 1
    value: Any = True
    rule: Rule | None = None
    default: str = ""
    metavar: str = ""


_SHARE = _between(0.0, 1.0)

# Heading of the help -> the flags below it.
GROUPS: Mapping[str, tuple[Flag, ...]] = {
    "expression": (
        Flag(
            ("exp-img",),
            "render.expression",
            "neutral, smile, an image of a face, or a coefficient file (.npy, .npz)",
            metavar="FILE",
        ),
        Flag(
            ("exp-blend",),
            "render.expression_blend",
            "0 is neutral, 1 the template (smile by default)",
            float,
            rule=_SHARE,
            default="1",
        ),
        Flag(("one-shot",), "render.one_shot", "drive the first frame of each shot", bool),
        Flag(
            ("up-face",), "render.upper_face", "emotion of the upper face", rule=_one_of(*get_args(UpperFace))
        ),
    ),
    "faces": (
        Flag(
            ("face-index",),
            "render.face",
            "the face to edit",
            rule=_matching("largest, all, or the number of a face in the report", r"largest|all|[0-9]{1,4}"),
            metavar="FACE",
        ),
        Flag(
            ("face-backend",),
            "analysis.backend",
            "detector and landmarks",
            rule=Rule(", ".join(backend_names()), lambda name: name in backend_names()),
        ),
        Flag(
            ("crop",),
            "analysis.region",
            "look for faces in this part only, pixels, -1 for the border",
            int,
            4,
            rule=Rule("numbers from -1", lambda region: region is None or min(region) >= -1),
            default="the whole frame",
            metavar="TOP BOTTOM LEFT RIGHT",
        ),
        Flag(("nosmooth", "no-smooth"), "analysis.smooth", "do not smooth landmarks", bool, value=False),
    ),
    "picture and length": (
        Flag(
            ("pad",),
            "render.pad",
            "what to show when the picture is shorter than the speech, where cut ends both",
            rule=_one_of(*get_args(Pad)),
        ),
        Flag(("static",), "analysis.still", "use the first frame as a still image", bool),
        Flag(
            ("fps",),
            "analysis.still_fps",
            "frames a second for a still image",
            float,
            rule=_between(1.0, 1000.0),
        ),
    ),
    "look": (
        Flag(("restore",), "render.restore", "strength of the mouth restorer", float, rule=_SHARE),
        Flag(("color-match",), "render.color_match", "strength of the color match", float, rule=_SHARE),
        Flag(
            ("lip-match",), "render.lip_match", "strength of the match of the lips' color", float, rule=_SHARE
        ),
        Flag(
            ("paint-profiles",),
            "render.keep_profiles",
            "paint faces that are nearly in profile too",
            bool,
            value=False,
        ),
        Flag(("no-parse",), "render.parse", "mask from landmarks, not by a network", bool, value=False),
        Flag(("no-neutralize",), "render.neutralize", "leave D-Net out", bool, value=False),
        Flag(("no-enhance",), "render.enhance", "leave E-Net out", bool, value=False),
        Flag(("no-silence-gate",), "render.silence_gate", "let the mouth move in silence", bool, value=False),
    ),
    "weights": (
        Flag(
            ("weights",),
            "weights.family",
            "auto (the converted released ones, else the bundled ones), official, demo, or a folder",
            metavar="WEIGHTS",
        ),
        Flag(("dnet-path",), "weights.dnet", "checkpoint of D-Net", default=_OF_FAMILY, metavar="FILE"),
        Flag(
            ("lnet-path", "checkpoint-path"),
            "weights.lnet",
            "checkpoint of L-Net, or of a Wav2Lip generator",
            default=_OF_FAMILY,
            metavar="FILE",
        ),
        Flag(("enet-path",), "weights.enet", "checkpoint of E-Net", default=_OF_FAMILY, metavar="FILE"),
        Flag(
            ("face3d-net-path",),
            "weights.reconnet",
            "checkpoint of the 3DMM regressor",
            default=_OF_FAMILY,
            metavar="FILE",
        ),
    ),
    "encoding": (
        Flag(("codec",), "output.codec", "codec of the picture", rule=_one_of(*CODECS)),
        Flag(
            ("quality", "crf"),
            "output.quality",
            "constant rate factor, lower is better and larger",
            int,
            rule=_between(0, max(WORST_QUALITY.values())),
            default="visually lossless",
        ),
    ),
    "marks": (
        Flag(
            ("mark",),
            "output.mark",
            "what says that a machine made it: on marks frames and sound, face painted pixels and sound",
            rule=_one_of(*get_args(MarkMode)),
        ),
        Flag(
            ("mark-key",),
            "output.mark_key",
            "key file that finds the marks (videoretalking detect --new-key)",
            default="the public key",
            metavar="FILE",
        ),
        Flag(("manifest",), "output.manifest", "sign a C2PA manifest into the result", bool),
        Flag(
            ("certificate",),
            "output.certificate",
            "PEM file with the signer's certificates",
            default="one made for each file",
            metavar="FILE",
        ),
        Flag(
            ("private-key",),
            "output.private_key",
            "PEM file with the signer's key",
            default="none",
            metavar="FILE",
        ),
    ),
    "runtime": (
        Flag(
            ("device",),
            "runtime.device",
            "where the networks run",
            rule=_matching("auto, cpu, mps, cuda, or cuda:N", r"auto|cpu|mps|cuda(:[0-9]{1,3})?"),
            metavar="DEVICE",
        ),
        Flag(
            ("dtype",),
            "runtime.dtype",
            "number format of the networks",
            rule=_one_of("auto", "float32", "bfloat16", "float16", "int8"),
        ),
        Flag(
            ("batch-size", "lnet-batch-size", "wav2lip-batch-size"),
            "runtime.batch_size",
            "faces in one call of a network, 0 chooses by device",
            int,
            rule=_between(0, 1024),
        ),
        Flag(("compile",), "runtime.compile", "torch.compile the networks; pays on long videos", bool),
        Flag(
            ("cache-dir", "tmp-dir"),
            "runtime.cache_dir",
            "folder of the face tracks",
            default="the user's cache folder",
            metavar="FOLDER",
        ),
        Flag(
            ("refresh", "re-preprocess"), "runtime.refresh", "analyze again, ignore cached face tracks", bool
        ),
    ),
}
FLAGS = tuple(flag for flags in GROUPS.values() for flag in flags)

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


def parse(arguments: Sequence[str] | None = None) -> CommandLine:
    """Read a command line.

    Defaults are outranked by the file of ``--config``, that by ``--preset``, and that by single flags.

    Args:
        arguments: without the program's name; None reads ``sys.argv``.

    Raises:
        UserError: unknown flag, missing or wrong value.
    """
    return make_job(read_flags(arguments))


def read_flags(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The given flags by name (underscores), not yet checked against each other; see :func:`parse`."""
    arguments = [_normal(item) for item in (sys.argv[1:] if arguments is None else arguments)]
    values = vars(_parser().parse_args(arguments))
    for name in REPLACED:
        if values.pop(_dest(name), None) is not None:
            logger.info("--%s has nothing to do here: %s", name, REPLACED[name][1])
    return values


def make_job(values: Mapping[str, Any]) -> CommandLine:
    """The job that flags describe; see :func:`parse`."""
    face, audio, batch = (values.get(key) for key in ("face", "audio", "batch"))
    if batch is None and (face is None or audio is None):
        raise UserError("--face and --audio are needed (or --batch list.csv); see --help")
    if batch is not None and (face is not None or audio is not None):
        raise UserError("--batch takes face and audio from its list; leave --face and --audio out")
    if batch is None and "cluster" in values:
        raise UserError("--cluster spreads the jobs of --batch over machines; leave it out for a single job")
    return CommandLine(
        face and str(find_file(face)),
        audio and str(find_file(audio)),
        values.get("outfile", DEFAULT_OUTFILE),
        batch,
        values.get("report"),
        _config(values),
        values.get("quiet", False),
        "cluster" in values,
    )


def _config(values: Mapping[str, Any]) -> InferenceConfig:
    file = values.get("config")
    settings = to_dict(load_config(InferenceConfig, file))
    preset = values.get("preset", DEFAULT_PRESET)
    if preset not in PRESETS:
        raise UserError(f"--preset cannot be {preset}, choose {', '.join(PRESETS)}")
    for key, value in PRESETS[preset].items():
        _set(settings, key, value)
    for flag in FLAGS:
        if _dest(flag.names[0]) in values:
            _set(settings, flag.key, values[_dest(flag.names[0])])
    for flag in FLAGS:
        value = _get(settings, flag.key)
        if flag.rule is not None and value is not None and not flag.rule.accepts(value):
            given = _dest(flag.names[0]) in values
            place = f"--{flag.names[0]}" if given else f"{file}: {flag.key}"
            raise UserError(f"{place} cannot be {value}, choose {flag.rule.words}")
        if flag.metavar == "FILE" and value is not None:
            _set(settings, flag.key, str(find_file(value)))
    return from_dict(InferenceConfig, settings, where="command line")


def _get(settings: Mapping[str, Any], key: str) -> Any:
    group, name = key.split(".")
    return settings[group][name]


def _set(settings: dict[str, Any], key: str, value: Any) -> None:
    group, name = key.split(".")
    settings[group][name] = value


def _parser() -> CommandParser:
    parser = CommandParser(
        usage="%(prog)s --face FILE --audio FILE [--outfile FILE] [flag ...]",
        description="Make the face of a video speak the words of an audio file.",
        epilog=_EXAMPLES.format(program=program_name()),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("input and output")
    group.add_argument("--face", metavar="FILE", help="video or image with the face")
    group.add_argument("--audio", metavar="FILE", help="speech: any file with sound")
    group.add_argument("--outfile", metavar="FILE", help=f"result (default: {DEFAULT_OUTFILE})")
    group.add_argument(
        "--report", metavar="FILE", help="write a per-frame report (JSON); a folder with --batch"
    )
    group.add_argument(
        "--batch", metavar="FILE", help="CSV file with the columns face, audio, outfile: one job a line"
    )
    group.add_argument(
        "--cluster", choices=("ray",), help="run the jobs of --batch on a Ray cluster (extra cluster)"
    )
    group.add_argument(
        "--config", metavar="FILE", help="YAML file with settings, such as configs/inference.yaml"
    )
    group.add_argument(
        "--preset",
        help=f"trade speed for quality: {', '.join(PRESETS)} (default: {DEFAULT_PRESET})",
        metavar="PRESET",
    )
    for heading, flags in GROUPS.items():
        group = parser.add_argument_group(heading)
        for flag in flags:
            _add_flag(group, flag)
    group = parser.add_argument_group("other")
    group.add_argument("-h", "--help", action="help", help="show this help")
    group.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}", help="show the version"
    )
    group.add_argument("--quiet", action="store_true", help="only warnings and errors, no progress")
    for name, (count, _) in REPLACED.items():
        if count is None:
            parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
        else:
            parser.add_argument(f"--{name}", nargs=count, help=argparse.SUPPRESS)
    return parser


def _add_flag(group: argparse._ArgumentGroup, flag: Flag) -> None:
    names, dest = [f"--{name}" for name in flag.names], _dest(flag.names[0])
    if flag.kind is bool:
        read = _truth if flag.value else _negated
        group.add_argument(
            *names, dest=dest, help=flag.help, nargs="?", type=read, const=flag.value, metavar="BOOL"
        )
        return
    default = _get(_DEFAULTS, flag.key)
    metavar = flag.metavar or _METAVARS.get(flag.kind, flag.names[0].rpartition("-")[2].upper())
    words = "" if flag.rule is None else f": {flag.rule.words}"
    group.add_argument(
        *names,
        dest=dest,
        help=f"{flag.help}{words} (default: {flag.default if default is None else default})",
        nargs=flag.count if flag.count > 1 else None,
        type=flag.kind,
        metavar=tuple(metavar.split()) if flag.count > 1 else metavar,
    )


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
