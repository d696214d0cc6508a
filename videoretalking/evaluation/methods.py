"""The methods that an evaluation compares: ours and its ablations, the Wav2Lip baseline, copies, and folders."""

from __future__ import annotations

import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videoretalking.core.config import from_dict
from videoretalking.core.constants import SAMPLE_RATE
from videoretalking.core.devices import choose_device, choose_dtype
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.core.hashing import file_hash
from videoretalking.core.locations import checkpoint_folders, find_weights
from videoretalking.evaluation.pairs import Pair
from videoretalking.evaluation.provenance import describe_device
from videoretalking.evaluation.run import Method, Result
from videoretalking.media.reader import VideoReader
from videoretalking.media.suffixes import VIDEO_SUFFIXES
from videoretalking.pipeline.config import InferenceConfig
from videoretalking.pipeline.retalker import Retalker
from videoretalking.pipeline.weights import choose_weights

# Settings of the main job, by dotted key, that turn it into a method of the paper's tables. Results end with the
# shorter of picture and sound, as the published evaluation script makes them, and are the same on every machine up
# to the rounding of float32.
Settings = Mapping[str, Any]
OURS: Settings = {"render.pad": "cut", "runtime.dtype": "float32"}
WITHOUT_DNET: Settings = {**OURS, "render.neutralize": False}
LNET_ONLY: Settings = {**WITHOUT_DNET, "render.enhance": False, "render.restore": 0.0}
# Differs from the published Wav2Lip program: its generator runs inside our face tracking and compositing, so that
# only the network differs. Outputs of the original program enter as a folder.
WAV2LIP: Settings = {
    **LNET_ONLY,
    "render.color_match": 0.0,
    "render.lip_match": 0.0,
    "render.silence_gate": False,
}


@dataclass(frozen=True)
class NamedMethod:
    """A method that a command line can name.

    Attributes:
        title: its name in tables.
        settings: of the main job; None for a method that dubs nothing.
        baseline: network that takes L-Net's place.
    """

    title: str
    settings: Settings | None
    baseline: str | None = None


METHODS: Mapping[str, NamedMethod] = {
    "ours": NamedMethod("Ours", OURS),
    "wav2lip": NamedMethod("Wav2Lip w/o GAN", WAV2LIP, "wav2lip"),
    "wav2lip-gan": NamedMethod("Wav2Lip", WAV2LIP, "wav2lip_gan"),
    "copy": NamedMethod("Source video", None),
}
_UNMARKED: Settings = {"output.mark": "off"}  # measures are to see what the networks made
# Where and how fast the main job runs says nothing about its results. The number format does: it is resolved.
_WITHOUT_EFFECT = {
    f"runtime.{key}" for key in ("device", "dtype", "batch_size", "compile", "cache_dir", "refresh")
}


_WAVE_HEADER = 44  # bytes


class MissingWeightsError(UserError):
    """A network that only some rows of a table need is not there."""


class RetalkerMethod:
    """The main job with given settings.

    Args:
        name: as shown in tables.
        settings: dotted key of :class:`pipeline.config.InferenceConfig` -> value.

    Raises:
        UserError: unknown setting, or missing weights.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = dict(settings)
        settings = {**_UNMARKED, **self.settings}
        self.config = from_dict(InferenceConfig, _nested(settings), where=f"settings of {name}")
        self.weights = choose_weights(self.config.weights, networks=self.config.render.networks)
        self._retalker: Retalker | None = None

    def describe(self) -> dict[str, Any]:
        """Settings, number format, hashes of weights and whether results are marked."""
        shaping = {key: value for key, value in self.settings.items() if key not in _WITHOUT_EFFECT}
        hashes = {network: file_hash(path) for network, path in self.weights.describe().items()}
        return {
            "kind": "retalker",
            "settings": shaping,
            "dtype": self.runtime()["dtype"],
            "weights": hashes,
            "mark": self.config.output.mark,
        }

    def runtime(self) -> dict[str, str]:
        """Device and number format of the networks."""
        wanted = self.config.runtime
        device = choose_device(wanted.device)
        dtype = choose_dtype(wanted.dtype, device, wanted.compile)
        return {"device": describe_device(device), "dtype": str(dtype).removeprefix("torch.")}

    def result(self, pair: Pair, folder: Path) -> Result:
        """``<folder>/<name>.mp4``."""
        video = folder / f"{pair.name}.mp4"
        return Result(video, video)

    def dub(self, pair: Pair, video: Path) -> None:
        """Run the main job."""
        if self._retalker is None:
            self._retalker = Retalker.from_pretrained(self.config)
        self._retalker.dub(pair.video, driving_audio(pair, video.parent.parent), video)


class FolderMethod:
    """Results made elsewhere: ``<name>.mp4``, or ``<index>.mp4`` as the published script names them.

    Args:
        name: as shown in tables.
        folder: where they are.

    Raises:
        UserError: the folder does not exist.
    """

    def __init__(self, name: str, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"the folder of results {folder} does not exist")
        self.name = name
        self.folder = folder

    def describe(self) -> dict[str, Any]:
        """Results are told apart by their content, so the place says nothing."""
        return {"kind": "folder", "name": self.name}

    def runtime(self) -> dict[str, str]:
        """Nothing is known of it."""
        return {}

    def result(self, pair: Pair, folder: Path) -> Result:
        """The result with its own sound; with the pair's where it has none."""
        for stem in (pair.name, str(pair.index)):
            for suffix in VIDEO_SUFFIXES:
                video = self.folder / f"{stem}{suffix}"
                if video.is_file():
                    with VideoReader(video) as reader:
                        has_audio = reader.info.has_audio
                    return Result(video, video if has_audio else driving_audio(pair, folder.parent))
        raise UserError(f"{self.folder} has no result {pair.name}.mp4 or {pair.index}.mp4")

    def dub(self, pair: Pair, video: Path) -> None:
        """Never called: :meth:`result` only gives files that exist."""
        raise UserError(f"{video} disappeared")


class CopyMethod:
    """Returns the source picture with the new sound: what leaves the lips alone, to calibrate metrics."""

    name = METHODS["copy"].title

    def describe(self) -> dict[str, Any]:
        """Nothing shapes it."""
        return {"kind": "copy"}

    def runtime(self) -> dict[str, str]:
        """No network runs."""
        return {}

    def result(self, pair: Pair, folder: Path) -> Result:
        """The source video itself."""
        return Result(pair.video, driving_audio(pair, folder.parent))

    def dub(self, pair: Pair, video: Path) -> None:
        """Never called: sources exist."""
        raise UserError(f"{video} disappeared")


def driving_audio(pair: Pair, folder: Path) -> Path:
    """The pair's sound; for silence a file of zeros as long as the video, written to ``<folder>/silence``."""
    if pair.audio is not None:
        return pair.audio
    path = folder / "silence" / f"{pair.name}.wav"
    with VideoReader(pair.video) as video:
        num_samples = round((video.info.start + video.info.duration) * SAMPLE_RATE)
    # one of another length was made for another video of this name, as after a change of the list
    if not path.is_file() or path.stat().st_size != _WAVE_HEADER + 2 * num_samples:
        with atomic_path(path) as temporary, wave.open(str(temporary), "wb") as handle:
            handle.setparams((1, 2, SAMPLE_RATE, num_samples, "NONE", "not compressed"))
            handle.writeframes(bytes(2 * num_samples))
    return path


def make_method(choice: str, settings: Settings | None = None, name: str | None = None) -> Method:
    """The method that a command line names.

    Args:
        choice: a key of :data:`METHODS`, or a folder of results.
        settings: further settings of the main job.
        name: as shown in tables; None for the usual one.

    Raises:
        MissingWeightsError: of a baseline.
        UserError: neither a known method nor a folder, or no weights for the main job.
    """
    method = METHODS.get(choice)
    if method is None:
        if not Path(choice).is_dir():
            raise UserError(f"--method {choice}: neither {', '.join(METHODS)} nor a folder of results")
        return FolderMethod(name or Path(choice).name, Path(choice))
    if method.settings is None:
        return CopyMethod()
    merged = {**method.settings, **(settings or {})}
    if method.baseline is not None and "weights.lnet" not in merged:
        merged["weights.lnet"] = str(baseline_weights(method.baseline, merged))
    return RetalkerMethod(name or method.title, merged)


def baseline_weights(network: str, settings: Settings) -> Path:
    """Checkpoint of a network that only some rows need: in the family's folder, else converted or bundled.

    Raises:
        MissingWeightsError: it is nowhere.
    """
    family = str(settings.get("weights.family", "auto"))
    given = () if family in ("auto", "official", "demo") else (Path(family),)
    path = find_weights(f"{network}.safetensors", (*given, *checkpoint_folders()))
    if path is not None:
        return path
    raise MissingWeightsError(f"needs weights {network}.safetensors, see checkpoints/README.md")


def _nested(settings: Settings) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, last = key.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise UserError(f"the setting {key} is in no group: {group} is a value; remove one of them")
        place[last] = value
    return nested
