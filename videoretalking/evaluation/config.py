"""Settings of an evaluation, and the one table of the metrics they switch on.

A further metric is a class in ``metrics/`` and, here, a field of :class:`EvaluationConfig` and a row of
:data:`METRICS`; tables, files and command lines take it from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.config import require_range, to_dict
from videoretalking.core.devices import choose_device
from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.core.locations import checkpoint_folder, find_weights
from videoretalking.evaluation.find_faces import TrackedFaces
from videoretalking.evaluation.intervals import IntervalConfig
from videoretalking.evaluation.provenance import describe_device
from videoretalking.evaluation.run import Measures
from videoretalking.evaluation.video import VideoScorer
from videoretalking.faces.detect import choose_detector
from videoretalking.metrics.base import Metric
from videoretalking.metrics.cpbd import Cpbd
from videoretalking.metrics.face_tracks import TrackingConfig
from videoretalking.metrics.fid import FidFeatures
from videoretalking.metrics.flicker import Flicker
from videoretalking.metrics.identity import Identity
from videoretalking.metrics.inception import FILE_NAME, RandomFeatures, find_inception, inception_features
from videoretalking.metrics.leakage import Leakage
from videoretalking.metrics.lpips import Lpips, lpips_distance
from videoretalking.metrics.lse import ExpertScore, SyncNetScore
from videoretalking.metrics.seam import Seam
from videoretalking.metrics.ssim import Similarity
from videoretalking.models.catalog import find_checkpoint, load_network

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FidConfig:
    """Full-frame FID.

    Attributes:
        features: ``auto`` takes the published network where its weights are, else the stand-in; ``inception``,
            ``stand-in`` or ``none``.
        weights: the published weights; None looks for them among the checkpoints.
        stride: every how many frames are used; the paper does not say, so all are.
    """

    features: Literal["auto", "inception", "stand-in", "none"] = "auto"
    weights: str | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        """Refuse a stride that reaches no frame."""
        require_range(self, "stride", least=1)


@dataclass(frozen=True)
class SyncConfig:
    """LSE-D, LSE-C and the offset.

    Attributes:
        network: ``auto`` takes SyncNet where its weights are, else the lip-sync expert; ``syncnet``,
            ``lipsync_expert`` or ``none``.
        weights: checkpoint of that network; None looks for it among the checkpoints.
        view: ``tracks`` crops face tracks (any video), ``frame`` takes whole frames (clips of faces, as LRS2);
            for SyncNet only.
        jpeg: the lossy detour of the published scripts; for SyncNet only.
        tracking: settings of the face tracks.
    """

    network: Literal["auto", "syncnet", "lipsync_expert", "none"] = "auto"
    weights: str | None = None
    view: Literal["tracks", "frame"] = "tracks"
    jpeg: bool = True
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured and how.

    Attributes:
        fid: full-frame FID.
        sync: sync scores.
        cpbd_stride: every how many frames CPBD is measured; 0 leaves it out.
        identity: ArcFace similarity; ``auto`` leaves it out where the weights are absent.
        lpips: perceptual distance; ``auto`` leaves it out where the weights are absent.
        extra_stride: every how many frames identity and LPIPS are measured.
        similarity: PSNR and SSIM to the source.
        flicker: temporal flicker.
        seam: seam visibility.
        leakage: leakage of the source's lips.
        face_backend: face detector, ``auto`` or a key of :data:`faces.detect.BACKENDS`.
        chunk_size: frames decoded at once.
        device: ``auto``, ``cpu``, ``cuda``, ...
        seed: of random numbers drawn while dubbing.
        intervals: how confidence intervals are drawn.
    """

    fid: FidConfig = field(default_factory=FidConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    cpbd_stride: int = 1
    identity: Literal["auto", "arcface", "none"] = "auto"
    lpips: Literal["auto", "alex", "vgg", "none"] = "auto"
    extra_stride: int = 5
    similarity: bool = True
    flicker: bool = True
    seam: bool = True
    leakage: bool = True
    face_backend: str = "auto"
    chunk_size: int = 16
    device: str = "auto"
    seed: int = 0
    intervals: IntervalConfig = field(default_factory=IntervalConfig)

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing is measured."""
        require_range(self, "cpbd_stride", "seed", least=0)
        require_range(self, "extra_stride", "chunk_size", least=1)


class Builder:
    """What the rows of :data:`METRICS` build from, and what they leave behind for the records.

    Attributes:
        config: settings.
        device: where to compute.
        networks: name -> hash of the weights of every network that measures.
        notes: name of a quantity -> remark for its readers.
    """

    def __init__(self, config: EvaluationConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.networks: dict[str, str] = {}
        self.notes: dict[str, str] = {}


def _fid(build: Builder) -> Metric | None:
    settings = build.config.fid
    if settings.features == "none":
        return None
    path = Path(settings.weights) if settings.weights else find_inception()
    use_published = settings.features == "inception" or (settings.features == "auto" and path is not None)
    if use_published:
        path = path or checkpoint_folder("official") / FILE_NAME
        extractor = inception_features(path, build.device)
        build.networks["fid"] = file_hash(path)
    else:
        extractor = RandomFeatures().to(build.device).eval()
        build.networks["fid"] = "stand-in"
        build.notes["fid"] = (
            f"fixed random features stand in for {FILE_NAME}: ranks methods, not comparable with other FIDs"
        )
    return FidFeatures(lambda images: extractor(images.to(build.device)), settings.stride)


def _sync(build: Builder) -> Metric | None:
    settings = build.config.sync
    name = settings.network
    if name == "none":
        return None
    if name == "auto":
        name = "syncnet" if find_weights("syncnet.safetensors") else "lipsync_expert"
        name = read_metadata(settings.weights)["network"] if settings.weights else name
    if name not in ("syncnet", "lipsync_expert"):
        raise UserError(f"sync.weights {settings.weights} holds the network {name!r}, which scores no sync")
    path = find_checkpoint(settings.weights or name)
    network: Any = load_network(path, expected=name, device=build.device)
    build.networks[name] = file_hash(path)
    if name == "syncnet":
        return SyncNetScore(network, settings.view, settings.jpeg, build.device)
    build.notes["lse"] = (
        f"scored by the lip-sync expert {path.parent.name}/{path.name} in place of SyncNet: ranks methods, not "
        "comparable with published LSE"
    )
    return ExpertScore(network, build.device)


def _identity(build: Builder) -> Metric | None:
    wanted = build.config.identity
    if wanted == "none":
        return None
    if wanted == "auto" and find_weights("arcface.safetensors") is None:
        build.notes["identity"] = "left out: no ArcFace weights"
        return None
    path = find_checkpoint("arcface")
    build.networks["arcface"] = file_hash(path)
    network = load_network(path, expected="arcface", device=build.device)
    return Identity(network, build.config.extra_stride, build.device)


def _lpips(build: Builder) -> Metric | None:
    wanted = build.config.lpips
    if wanted == "none":
        return None
    try:
        distance = lpips_distance(build.device, "alex" if wanted == "auto" else wanted)
    except UserError as error:
        if wanted != "auto":
            raise
        build.notes["lpips"] = f"left out: {error}"
        return None
    return Lpips(distance, build.config.extra_stride)


# Name -> what makes the metric of the settings; None where they switch it off or its weights are absent.
METRICS: dict[str, Callable[[Builder], Metric | None]] = {
    "fid": _fid,
    "cpbd": lambda build: Cpbd(build.config.cpbd_stride) if build.config.cpbd_stride else None,
    "sync": _sync,
    "identity": _identity,
    "lpips": _lpips,
    "similarity": lambda build: Similarity(build.device) if build.config.similarity else None,
    "flicker": lambda build: Flicker() if build.config.flicker else None,
    "seam": lambda build: Seam() if build.config.seam else None,
    "leakage": lambda build: Leakage() if build.config.leakage else None,
}


def build_measures(
    config: EvaluationConfig, cache: Path | None = None, only: Collection[str] | None = None
) -> Measures:
    """The metrics of a config, with what they were made from.

    Args:
        config: settings.
        cache: folder for face tracks of videos seen before; None keeps nothing.
        only: rows of :data:`METRICS` to look at; None for all.

    Raises:
        UserError: weights that a setting demands are missing or damaged.
    """
    builder = Builder(config, choose_device(config.device))
    rows = METRICS if only is None else {name: METRICS[name] for name in only}
    built = {name: make(builder) for name, make in rows.items()}
    fid = built.get("fid")
    assert fid is None or isinstance(fid, FidFeatures)
    detector = choose_detector(config.face_backend, builder.device)
    scorer = VideoScorer(
        [metric for metric in built.values() if metric is not None],
        TrackedFaces(detector, cache),
        config.sync.tracking,
        config.chunk_size,
    )
    # Where it is computed, how much is decoded at once and how averages are drawn again do not belong to what is
    # measured.
    apart = ("chunk_size", "device", "seed", "intervals")
    settings = {key: value for key, value in to_dict(config).items() if key not in apart}
    fid_settings = {"network": builder.networks["fid"], "stride": fid.stride} if fid is not None else {}
    settings |= {"networks": builder.networks, "face_detector": detector.name, "fid": fid_settings}
    for name, note in builder.notes.items():
        logger.warning("%s: %s", name, note)
    return Measures(scorer, fid, settings, builder.notes, describe_device(builder.device))
