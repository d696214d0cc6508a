"""All key tables, as the catalog names them, and which converted file each released file becomes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from videoretalking.models.catalog import NETWORKS
from videoretalking.models.official.layout import Layout

LAYOUTS: tuple[Layout, ...] = tuple(entry.layout() for entry in NETWORKS.values() if entry.released)

# Released file name -> its key table. Other names of the same content are listed in ``Layout.files``.
BY_FILE: Mapping[str, Layout] = {name: layout for layout in LAYOUTS for name in layout.files}


def converted_name(released: str) -> str:
    """File name under ``checkpoints/official`` of a released file.

    The network's name, so that ``models.catalog.load_network`` finds it; of Wav2Lip's two releases the one
    trained without a GAN takes the plain name, as in table 1 of the paper.
    """
    if released == "wav2lip_gan.pth":
        return "wav2lip_gan.safetensors"
    return f"{BY_FILE[Path(released).name].network}.safetensors"
