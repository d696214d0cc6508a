"""Network goldens: released layout -> real converter -> real loader -> outputs -> error."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from videoretalking.core.errors import UserError
from videoretalking.models.catalog import load_network
from videoretalking.models.official.tables import BY_FILE
from videoretalking.scripts.convert_official import convert_file
from videoretalking.scripts.parity import av_networks, face_networks, lip_networks
from videoretalking.scripts.parity.kit import Kit, largest_error

# Name in the kit -> (our network, function from kit inputs to kit outputs).
ADAPTERS: dict[str, tuple[str, Any]] = {
    **lip_networks.ADAPTERS,
    **av_networks.ADAPTERS,
    **face_networks.ADAPTERS,
}


def load_from_kit(kit: Kit, name: str, seed: int) -> Any:
    """The network of a kit entry, having gone through files of the released layout and the converter.

    Returns:
        The network in eval mode; for E-Net the pair (E-Net, L-Net).

    Raises:
        UserError: a network or released file that this project does not know.
    """
    if name not in ADAPTERS:
        raise UserError(f"the parity kit has a network {name!r} that this program does not know")
    networks = []
    with tempfile.TemporaryDirectory() as folder:
        for file, payload in kit.released_files(name, seed).items():
            source, target = Path(folder) / file, Path(folder) / f"{file}.safetensors"
            torch.save(payload, source)
            convert_file(source, target, BY_FILE[file])
            networks.append(load_network(target, expected=BY_FILE[file].network))
    return networks[0] if len(networks) == 1 else tuple(networks)


@torch.no_grad()
def network_error(kit: Kit, name: str, seed: int) -> float:
    """Largest error of one network and seed in units of each output's standard deviation.

    Raises:
        UserError: unknown network, missing golden file.
        ValueError: outputs that are missing, wrongly shaped or not finite.
    """
    golden = kit.golden(name, seed)
    network = load_from_kit(kit, name, seed)
    _, run = ADAPTERS[name]
    return largest_error(golden, run(network, kit.inputs(name, seed)))
