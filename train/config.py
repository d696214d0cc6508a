"""Groups of settings that every training config shares.

Numbers that the paper gives (learning rate, iterations, loss weights) have no default in code: they stand in
``configs/*.yaml``, one file a network, where a reader looks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from videoretalking.core.config import require_range
from videoretalking.core.constants import SYNC_FRAMES
from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.collection import DataConfig


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam and its schedule.

    Attributes:
        lr: learning rate.
        betas: Adam's averaging factors.
        eps: Adam's least denominator. Biases before a normalization have no effect and a gradient of pure
            rounding noise, which 1e-8 turns into steps; 1e-6 keeps runs comparable across numbers of processes.
        warmup_steps: steps of linear warm-up from 0.
        decay: ``constant``, or ``cosine`` to 0 at the last step.
        clip_norm: largest norm of all gradients together; 0 for no limit.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup_steps: int = 0
    decay: Literal["constant", "cosine"] = "constant"
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers with which Adam does not run."""
        require_range(self, "lr", "eps", "warmup_steps", "clip_norm", least=0)
        require_range(self, "betas", least=0, below=1)


@dataclass(frozen=True)
class LoopConfig:
    """The run as a whole.

    Attributes:
        folder: run folder: state, weights, resolved config, TensorBoard events. A run found there is continued.
        steps: optimizer steps; with ``minutes``, the length of the schedule.
        minutes: end the run after so much time, that of all its starts together; 0 for no limit. Warm-up, decay and
            the stages that begin at a certain step then come at their share of the time instead of at their step
            (:class:`train.clock.Clock`), so that the run ends as it should, however fast the machine is.
        batch_size: samples of one optimizer step, over all processes and micro-batches.
        accumulation: micro-batches of one step.
        seed: of weights, samples and everything random.
        device: ``auto``, ``cpu``, ``cuda`` ...
        precision: ``float32``, ``bfloat16`` or ``float16`` autocast; weights stay float32.
        compile: let torch.compile translate the trained network; its first steps take a minute, later ones less
            time. Needs a C++ compiler. Weights and states are the same as without.
        channels_last: keep images with their channels innermost, which is faster on CPUs and on tensor cores.
        workers: processes that prepare samples, per training process; 0 prepares them in place.
        ema_decay: factor of the moving average of the weights, which is then what gets validated and exported;
            0 for none.
        share_batch_norm: batch statistics over all processes instead of each its own.
        init: checkpoint whose weights start a new run; "" for fresh ones. It may have parts that this run's network
            lacks (an ablation starts from the whole network), but not the reverse.
        license: line stored in the exported weights.
        log_every: steps between log lines.
        image_every: steps between image grids and videos; 0 for none.
        save_every: steps between saved states and exported weights.
        keep_every: states and weights of every so many steps stay in the folder ``kept``; 0 for none.
        keep_last: so many of the latest states and weights stay there as well.
        best: validation figure by whose best value ``best.safetensors`` is chosen, such as ``psnr``; "" for none.
        best_is: whether the ``highest`` or the ``lowest`` value is the best one.
        validate_every: steps between validations; 0 for none.
        validation_batches: micro-batches of one validation, the same ones every time: of clips drawn at random
            once, not the first in order of names, which would be a few people.
        score_clips: clips of a validation that L-Net and Wav2Lip dub as a whole for the sync scores; 0 for none.
        score_frames: most frames of such a clip.
        preview_frames: frames of the validation video.
        plateau_steps: steps after which a sync loss that has not moved draws a warning.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"licence": "license"}

    folder: str
    steps: int
    batch_size: int
    minutes: float = 0.0
    accumulation: int = 1
    seed: int = 0
    device: str = "auto"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    channels_last: bool = False
    workers: int = 4
    ema_decay: float = 0.0
    share_batch_norm: bool = True
    init: str = ""
    license: str = "follows the training data; not stated by whoever trained"
    log_every: int = 50
    image_every: int = 1000
    save_every: int = 1000
    keep_every: int = 0
    keep_last: int = 0
    best: str = ""
    best_is: Literal["highest", "lowest"] | None = None
    validate_every: int = 1000
    validation_batches: int = 16
    score_clips: int = 8
    score_frames: int = 50
    preview_frames: int = 25
    plateau_steps: int = 5000

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing is trained, logged or saved."""
        require_range(self, "steps", "batch_size", "accumulation", "log_every", "save_every", least=1)
        require_range(self, "validation_batches", "preview_frames", "plateau_steps", least=1)
        require_range(self, "score_frames", least=SYNC_FRAMES)
        require_range(self, "seed", "workers", "image_every", "validate_every", "score_clips", least=0)
        require_range(self, "keep_every", "keep_last", least=0)
        require_range(self, "minutes", least=0)
        require_range(self, "ema_decay", least=0, below=1)
        if self.best and self.best_is is None:
            raise ValueError(
                f"best_is of LoopConfig must be highest or lowest where loop.best names {self.best}"
            )
        if self.best and not self.validate_every:
            raise ValueError("validate_every of LoopConfig must be at least 1 where loop.best names a figure")


@dataclass(frozen=True)
class FrozenConfig:
    """A network that only judges or assists.

    Attributes:
        weights: name in the catalog, path of a checkpoint, or ``random-<name>`` for an explicit stand-in with
            fixed random weights.
        config: sizes that differ from the defaults, for ``random-`` only.
    """

    weights: str
    config: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def none() -> FrozenConfig:
        """No network: to load it is an error."""
        return FrozenConfig("")


@dataclass(frozen=True)
class PerceptualConfig:
    """Feature network of the perceptual and style losses.

    Attributes:
        features: ``vgg19``; ``efficientnet-lite0``, whose weights a Python package carries; ``random-vgg19`` or
            ``random-efficientnet-lite0``, a stand-in with fixed random weights; or the path of a checkpoint of
            one of them or of another network that has stages (landmarks, arcface).
        config: sizes that differ from the defaults, for stand-ins only.
        distance: ``l1`` or ``squared_l2``.
        num_scales: scales of the perceptual loss.
        pixels: weight of the plain pixel difference on every scale, for features that do not see colors well;
            not in the paper.
    """

    features: str
    config: dict[str, Any] = field(default_factory=dict)
    distance: Literal["l1", "squared_l2"] = "l1"
    num_scales: int = 1
    pixels: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a loss that compares nothing."""
        require_range(self, "num_scales", least=1)
        require_range(self, "pixels", least=0)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What the config of every network's training has.

    Attributes:
        network: name of the trained network in the catalog.
        loop: the run.
        data: prepared data.
        optimizer: Adam of the network, and of its discriminator where there is one.
        augment: augmentation of training samples.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"weights": "loss_weights"}

    network: str
    loop: LoopConfig
    data: DataConfig
    optimizer: OptimizerConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
