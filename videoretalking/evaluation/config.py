"""Settings of an evaluation and the metrics they stand for."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.config import to_dict
from videoretalking.core.devices import choose_device
from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.core.locations import checkpoint_folder, find_weights
from videoretalking.evaluation.find_faces import TrackedFaces
from videoretalking.evaluation.run import Measures
from videoretalking.evaluation.video import VideoScorer
from videoretalking.faces.detect import choose_detector
from videoretalking.metrics.base import Metric
from videoretalking.metrics.cpbd import Cpbd
from videoretalking.metrics.face_tracks import TrackingConfig
from videoretalking.metrics.fid import FidFeatures
from videoretalking.metrics.flicker import Flicker
from videoretalking.metrics.identity import Identity
from videoretalking.metrics.inception import FILE_NAME, RandomFeatures, inception_features
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


def build_measures(config: EvaluationConfig, cache: Path | None = None) -> Measures:
    """The metrics of a config, with what they were made from.

    Args:
        config: settings.
        cache: folder for face tracks of videos seen before; None keeps nothing.

    Raises:
        UserError: weights that a setting demands are missing or damaged.
    """
    builder = _Builder(config, choose_device(config.device))
    builder.add_fid()
    builder.add_cpbd()
    builder.add_sync()
    builder.add_identity()
    builder.add_lpips()
    builder.add_plain()
    detector = choose_detector(config.face_backend, builder.device)
    find_faces = TrackedFaces(detector, cache)
    scorer = VideoScorer(builder.metrics, find_faces, config.sync.tracking, config.chunk_size)
    # How much is decoded at once and where it is computed does not belong to what is measured.
    settings = {
        key: value for key, value in to_dict(config).items() if key not in ("chunk_size", "device", "seed")
    }
    settings |= {"networks": builder.networks, "face_detector": detector.name, "fid": builder.fid_settings}
    for name, note in builder.notes.items():
        logger.warning("%s: %s", name, note)
    return Measures(scorer, builder.fid, settings, builder.notes)


class _Builder:
    """Collects metrics, the hashes of their networks, and remarks for readers."""

    def __init__(self, config: EvaluationConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.metrics: list[Metric] = []
        self.notes: dict[str, str] = {}
        self.networks: dict[str, str] = {}
        self.fid: FidFeatures | None = None
        self.fid_settings: dict[str, Any] = {}

    def add_fid(self) -> None:
        settings = self.config.fid
        if settings.features == "none":
            return
        path = Path(settings.weights) if settings.weights else find_weights(FILE_NAME)
        use_published = settings.features == "inception" or (
            settings.features == "auto" and (settings.weights is not None or path is not None)
        )
        if use_published:
            path = path or checkpoint_folder("official") / FILE_NAME
            extractor = inception_features(path, self.device)
            self.networks["fid"] = file_hash(path)
        else:
            extractor = RandomFeatures().to(self.device).eval()
            self.networks["fid"] = "stand-in"
            self.notes["fid"] = (
                f"fixed random features stand in for {FILE_NAME}: ranks methods, not comparable with other FIDs"
            )
        self.fid_settings = {"network": self.networks["fid"], "stride": settings.stride}
        self.fid = FidFeatures(lambda images: extractor(images.to(self.device)), settings.stride)
        self.metrics.append(self.fid)

    def add_cpbd(self) -> None:
        if self.config.cpbd_stride:
            self.metrics.append(Cpbd(self.config.cpbd_stride))

    def add_sync(self) -> None:
        settings = self.config.sync
        name = settings.network
        if name == "none":
            return
        if name == "auto":
            name = "syncnet" if find_weights("syncnet.safetensors") else "lipsync_expert"
            name = read_metadata(settings.weights)["network"] if settings.weights else name
        if name not in ("syncnet", "lipsync_expert"):
            raise UserError(
                f"sync.weights {settings.weights} holds the network {name!r}, which scores no sync"
            )
        path = find_checkpoint(settings.weights or name)
        network: Any = load_network(path, expected=name, device=self.device)
        self.networks[name] = file_hash(path)
        if name == "syncnet":
            self.metrics.append(SyncNetScore(network, settings.view, settings.jpeg, self.device))
            return
        self.metrics.append(ExpertScore(network, self.device))
        self.notes["lse"] = (
            f"scored by the lip-sync expert {path.parent.name}/{path.name} in place of SyncNet: ranks methods, not "
            "comparable with published LSE"
        )

    def add_identity(self) -> None:
        if self.config.identity == "none":
            return
        if self.config.identity == "auto" and find_weights("arcface.safetensors") is None:
            self.notes["identity"] = "left out: no ArcFace weights"
            return
        path = find_checkpoint("arcface")
        self.networks["arcface"] = file_hash(path)
        network = load_network(path, expected="arcface", device=self.device)
        self.metrics.append(Identity(network, self.config.extra_stride, self.device))

    def add_lpips(self) -> None:
        if self.config.lpips == "none":
            return
        backbone = "alex" if self.config.lpips == "auto" else self.config.lpips
        try:
            distance = lpips_distance(self.device, backbone)
        except UserError as error:
            if self.config.lpips != "auto":
                raise
            self.notes["lpips"] = f"left out: {error}"
            return
        self.metrics.append(Lpips(distance, self.config.extra_stride))

    def add_plain(self) -> None:
        """Metrics without a network."""
        if self.config.similarity:
            self.metrics.append(Similarity(self.device))
        if self.config.flicker:
            self.metrics.append(Flicker())
        if self.config.seam:
            self.metrics.append(Seam())
        if self.config.leakage:
            self.metrics.append(Leakage())
