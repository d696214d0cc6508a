"""Every setting of the main job, each default in one place, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Pad = Literal["loop", "pingpong", "hold", "cut"]
UpperFace = Literal["original", "sad", "angry", "surprise"]
MarkMode = Literal["on", "face", "off"]


@dataclass(frozen=True)
class WeightsConfig:
    """Which checkpoints run.

    Attributes:
        family: ``auto`` takes the converted official weights where they are, else the bundled ones;
            ``official``, ``demo``, or the path of a folder with one ``<network>.safetensors`` each.
        dnet: checkpoint that replaces the family's D-Net; likewise the following ones.
        lnet: L-Net, or a Wav2Lip generator as the baseline.
        enet: E-Net.
        reconnet: the 3DMM regressor.
    """

    family: str = "auto"
    dnet: str | None = None
    lnet: str | None = None
    enet: str | None = None
    reconnet: str | None = None


@dataclass(frozen=True)
class AnalysisConfig:
    """What shapes the face tracks of pass 1 (part of the cache key).

    Attributes:
        backend: face detector and landmarks, ``auto`` or a key of :data:`faces.detect.BACKENDS`.
        smooth: Savitzky-Golay filter over the landmarks (paper, section 3.1).
        region: top, bottom, left, right in pixels: look for faces in this part of the frame only; -1 means
            the frame's border.
        still: use the first frame of the video as a still image.
        still_fps: frames a second of the output for a still image.
    """

    backend: str = "auto"
    smooth: bool = True
    region: tuple[int, int, int, int] | None = None
    still: bool = False
    still_fps: float = 25.0


@dataclass(frozen=True)
class RenderConfig:
    """What pass 2 does with each frame.

    Attributes:
        face: ``largest``, ``all``, or the number of a face in the order of the report.
        neutralize: run D-Net; without it the frame itself is L-Net's reference (ablation of table 3).
        neutralize_every: frames of a person between two runs of D-Net, whose face moves with the head meanwhile; 1
            runs it for each frame.
        enhance: run E-Net; without it L-Net's image is enlarged (ablation of table 3).
        expression: template for D-Net: ``neutral``, ``smile``, an image of a face, or a file of coefficients.
        expression_blend: 0 neutral .. 1 the template (table 4; smile if it is neutral); None is 1.
        identity_every: frames between encodings of the identity for E-Net; 1 is as published.
        least_share: of the painting against the reference, for an L-Net that gives it: shares up to it are left
            out, and so is E-Net's work on pixels that nobody will see. 0.002 is half a gray level at most.
        half_size: make faces at half of E-Net's size as long as the frame shows them no larger.
        one_shot: D-Net warps the first frame of every shot instead of each frame (appendix B).
        upper_face: emotion of the upper face through GANimation.
        parse: segment the new face with a parsing network if its weights are there; else, and without them, the
            mask follows the landmarks.
        parse_every: frames between two parses of a person, whose masks move with the face meanwhile; 1 parses every
            frame.
        restore: strength of the mouth restorer, 0 .. 1; it acts on the teeth region only.
        color_match: strength of the color match between new and old face, 0 .. 1.
        lip_match: strength by which new lips get the color of those in the frames, 0 .. 1.
        keep_profiles: let faces that turn nearly into profile fade to their own pixels, by the confidence of the
            bundled landmark network; on other landmarks it does nothing.
        pad: length rule, see :func:`pipeline.schedule.make_schedule`.
        silence_gate: bring the mouth to rest where the speech is silent.
        score_sync: measure for the report how well each face follows the speech, if the expert's weights are there.
    """

    face: str = "largest"
    neutralize: bool = True
    neutralize_every: int = 1
    enhance: bool = True
    expression: str = "neutral"
    expression_blend: float | None = None
    identity_every: int = 8
    least_share: float = 0.002
    half_size: bool = False
    one_shot: bool = False
    upper_face: UpperFace = "original"
    parse: bool = True
    parse_every: int = 2
    restore: float = 1.0
    color_match: float = 1.0
    lip_match: float = 1.0
    keep_profiles: bool = True
    pad: Pad = "pingpong"
    silence_gate: bool = True
    score_sync: bool = True

    @property
    def networks(self) -> tuple[str, ...]:
        """Those of the paper's three that run, by their names in the catalog."""
        wanted = {"dnet": self.neutralize, "lnet": True, "enet": self.enhance}
        return tuple(name for name, runs in wanted.items() if runs)


@dataclass(frozen=True)
class OutputConfig:
    """How the result is encoded, and how it can be told from a recording (paper, section 6).

    Attributes:
        codec: ``h264``, ``hevc``, ``vp9``, ``av1`` or ``ffv1``.
        quality: constant rate factor, lower is better and larger; None is visually lossless.
        speed: encoder preset in the words of x264. ``auto`` is ``medium``; where the networks run on a GPU, which
            would wait for the encoder, it is ``veryfast``, or with fewer than 32 CPUs ``superfast``: of the same
            quality in a file half as large again, or twice as large.
        mark: ``on`` marks every frame and the sound; ``face`` the sound and the painted pixels, all others keep
            their bytes before encoding; ``off`` marks nothing and copies AAC sound bit for bit.
        mark_key: file of the key that finds the marks; None for the public key.
        manifest: sign a C2PA manifest into the finished file (extra ``provenance``).
        certificate: PEM file with the signer's chain of certificates; None makes one for each file.
        private_key: PEM file with the signer's key; belongs to ``certificate``.
    """

    codec: str = "h264"
    quality: int | None = None
    speed: str = "auto"
    mark: MarkMode = "on"
    mark_key: str | None = None
    manifest: bool = False
    certificate: str | None = None
    private_key: str | None = None


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how fast; nothing here changes what the result shows beyond the rounding of the number format.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16``, ``int8``.
        batch_size: faces in one call of a network, halved when memory runs out; 0 chooses by device.
        compile: torch.compile the networks; pays on long videos.
        cache_dir: folder of the face tracks; None for the user's cache folder.
        refresh: analyze again even if a cached track fits.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 0
    compile: bool = False
    cache_dir: str | None = None
    refresh: bool = False


@dataclass(frozen=True)
class InferenceConfig:
    """All settings of the main job."""

    weights: WeightsConfig = field(default_factory=WeightsConfig)
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    render: RenderConfig = field(default_factory=RenderConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


# Values by dotted key. ``balanced`` is the defaults.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {
        "render.neutralize_every": 4,
        "render.least_share": 0.02,
        "render.half_size": True,
        "render.parse": False,
        "render.restore": 0.0,
        "render.score_sync": False,
        "output.speed": "veryfast",
        "output.quality": 18,
    },
    "balanced": {},
    "best": {
        "render.identity_every": 1,
        "render.least_share": 0.0,
        "render.parse_every": 1,
        "runtime.dtype": "float32",
        "output.speed": "slow",
    },
}
