"""The one place where a name chooses a network: building, saving and loading."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from videoretalking.core.checkpoint import read_checkpoint, save_checkpoint
from videoretalking.core.config import from_dict, to_dict
from videoretalking.core.errors import UserError
from videoretalking.core.hub import fetch_folder
from videoretalking.core.locations import checkpoint_folders, find_file, find_weights
from videoretalking.models.layers.blocks import fold_spectral_norm
from videoretalking.models.official.layout import Layout


@dataclass(frozen=True)
class Entry:
    """Where a network's class and config live; imported on first use.

    Attributes:
        file: module in this folder.
        network: class name; its config class is called the same with ``Config`` appended.
        released: whether weights were published, whose key table stands in ``official/`` under the same file name.
    """

    file: str
    network: str
    released: bool = True

    @property
    def module(self) -> str:
        """Module path of the network."""
        return f"videoretalking.models.{self.file}"

    def classes(self) -> tuple[type[nn.Module], type[Any]]:
        """The network class and its config class."""
        module = importlib.import_module(self.module)
        return getattr(module, self.network), getattr(module, f"{self.network}Config")

    def layout(self) -> Layout:
        """The key table of the released file.

        Raises:
            ModuleNotFoundError: nothing was released.
        """
        layout: Layout = importlib.import_module(f"videoretalking.models.official.{self.file}").LAYOUT
        return layout


NETWORKS: Mapping[str, Entry] = {
    "dnet": Entry("dnet", "DNet"),
    "lnet": Entry("lnet", "LNet"),
    "enet": Entry("enet", "ENet"),
    "enet_discriminator": Entry("discriminators", "ENetDiscriminator", released=False),
    "patch_discriminator": Entry("discriminators", "PatchDiscriminator", released=False),
    "reconnet": Entry("reconnet", "ReconNet"),
    "lipsync_expert": Entry("lipsync_expert", "LipSyncExpert"),
    "syncnet": Entry("syncnet", "SyncNet"),
    "wav2lip": Entry("wav2lip", "Wav2Lip"),
    "wav2lip_discriminator": Entry("discriminators", "QualityDiscriminator"),
    "landmarks": Entry("landmarks", "LandmarkNet", released=False),
    "parsenet": Entry("parsenet", "ParseNet"),
    "bisenet": Entry("bisenet", "BiSeNet"),
    "gpen": Entry("gpen", "GPEN"),
    "gfpgan": Entry("gfpgan", "GFPGAN"),
    "ganimation": Entry("ganimation", "GANimation"),
    "arcface": Entry("arcface", "ArcFace"),
    "sface": Entry("sface", "SFace", released=False),
    "vgg19": Entry("vgg", "VGG19Features"),
    "efficientnet_lite0": Entry("efficientnet_lite", "EfficientNetLite0"),
    "retinaface": Entry("retinaface", "RetinaFace"),
    "s3fd": Entry("s3fd", "S3FD"),
}


def build_network(name: str, config: Any = None) -> nn.Module:
    """A freshly initialized network.

    Args:
        name: a key of :data:`NETWORKS`.
        config: its config dataclass, a mapping of the values that differ from the defaults, or None.

    Raises:
        UserError: unknown name or config key.
    """
    network_class, config_class = _entry(name).classes()
    if isinstance(config, Mapping):
        config = from_dict(config_class, config, where=f"config of {name}")
    return network_class(config)


def save_network(
    path: str | Path,
    network: nn.Module,
    license: str,
    extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network with its name and full config.

    Args:
        path: target ``*.safetensors``.
        network: an instance of a class in :data:`NETWORKS`.
        license: license and origin of the weights, one line.
        extra: further facts for the metadata.
        dtype: store floating-point tensors in this format (float16 for bundled weights); None keeps them.
    """
    state = network.state_dict()
    if dtype is not None:
        state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    save_checkpoint(
        path,
        state,
        network=network_name(network),
        config=to_dict(network.config),
        license=license,
        extra=extra,
    )


def load_network(
    name_or_path: str | Path,
    expected: str | None = None,
    device: torch.device | str = "cpu",
    fold: bool = True,
    folders: tuple[Path, ...] | None = None,
) -> nn.Module:
    """Load a network in eval mode; its config comes from the file.

    Args:
        name_or_path: a key of :data:`NETWORKS`, searched as ``<name>.safetensors`` in ``folders``, or a file.
        expected: name of the network the caller needs; None accepts any.
        device: where to put it.
        fold: turn spectrally normalized weights into plain ones (equal outputs, faster); False keeps what
            further training needs.
        folders: where bare names are searched; None for :func:`core.locations.checkpoint_folders`.

    Returns:
        The network, float32, eval mode, no gradients.

    Raises:
        UserError: missing, damaged, foreign or future file, wrong network, tensors that do not fit.
    """
    path = find_checkpoint(name_or_path, folders)
    state, metadata = read_checkpoint(path)
    name = metadata["network"]
    expected = expected or (str(name_or_path) if str(name_or_path) in NETWORKS else None)
    if expected is not None and name != expected:
        raise UserError(f"checkpoint {path} holds the network {name!r}, needed is {expected!r}")
    if name not in NETWORKS:
        raise UserError(f"checkpoint {path} holds the network {name!r}, which this program does not know")
    _, config_class = NETWORKS[name].classes()
    config = from_dict(config_class, metadata["config"], where=f"config inside {path}")
    with _NoRandomInit():
        network = build_network(name, config)
    _load_strictly(network, state, path, name)
    network.eval().requires_grad_(False)
    if fold:
        fold_spectral_norm(network)
    return network.to(device)


def from_pretrained(
    source: str | Path,
    network: str | None = None,
    device: torch.device | str = "cpu",
    revision: str | None = None,
) -> nn.Module:
    """Load a network from a folder or from the Hugging Face hub.

    Args:
        source: a folder such as that of a run; ``owner/name`` on the hub; or a checkpoint file.
        network: a key of :data:`NETWORKS`; None where the source holds one checkpoint only.
        device: where to put it.
        revision: branch, tag or commit of the repository on the hub.

    Returns:
        As :func:`load_network`.

    Raises:
        UserError: what :func:`load_network` and :func:`core.hub.fetch_folder` raise, or several checkpoints and no
            name.
    """
    if Path(source).is_file():
        return load_network(source, expected=network, device=device)
    folder = fetch_folder(source, revision)
    if network is not None:
        return load_network(folder / f"{network}.safetensors", expected=network, device=device)
    found = sorted(path for path in folder.glob("*.safetensors") if path.stem in NETWORKS)
    if len(found) != 1:
        named = ", ".join(path.stem for path in found) or "no network of this project"
        raise UserError(f"{source} holds {named}: name the one that is wanted")
    return load_network(found[0], device=device)


def find_checkpoint(name_or_path: str | Path, folders: tuple[Path, ...] | None = None) -> Path:
    """The file behind a name or path; errors as in :func:`load_network`."""
    if str(name_or_path) not in NETWORKS:
        return find_file(name_or_path)
    folders = checkpoint_folders() if folders is None else folders
    path = find_weights(f"{name_or_path}.safetensors", folders)
    if path is not None:
        return path
    searched = ", ".join(str(folder) for folder in folders)
    raise UserError(
        f"no weights of {name_or_path} in {searched}; see checkpoints/README.md for how to get them"
    )


def network_name(network: nn.Module) -> str:
    """The key of :data:`NETWORKS` that an instance belongs to."""
    for name, entry in NETWORKS.items():
        if (entry.module, entry.network) == (type(network).__module__, type(network).__name__):
            return name
    raise ValueError(f"{type(network).__name__} is not in the catalog of networks")


class _NoRandomInit(TorchFunctionMode):
    """Skip the random initialization of parameters that a checkpoint overwrites anyway.

    Drawing the 130 M numbers of L-Net takes longer than reading them from the file.
    """

    _DRAWS = frozenset(
        {nn.init.kaiming_uniform_, nn.init.uniform_, torch.Tensor.uniform_, torch.Tensor.normal_}
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _entry(name: str) -> Entry:
    if name not in NETWORKS:
        raise UserError(f"unknown network {name!r}, choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _load_strictly(
    network: nn.Module, state: Mapping[str, torch.Tensor], path: str | Path, name: str
) -> None:
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(state))
    unexpected = sorted(set(state) - set(wanted))
    wrong = sorted(key for key in set(wanted) & set(state) if wanted[key].shape != state[key].shape)
    if missing or unexpected or wrong:
        raise UserError(
            f"checkpoint {path} does not fit {name}: {len(missing)} missing, {len(unexpected)} unexpected, "
            f"{len(wrong)} wrongly shaped tensors, first {(missing + unexpected + wrong)[0]!r}"
        )
    floats = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    network.load_state_dict(floats, assign=True)
