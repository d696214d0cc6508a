"""The files that other people released: where they are, how large, what for, and what their content must be.

Sources and licenses are explained in ``checkpoints/README.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from videoretalking.core.errors import UserError
from videoretalking.core.locations import checkpoint_folder
from videoretalking.metrics.inception import FILE_NAME as INCEPTION
from videoretalking.metrics.inception import SHA256 as INCEPTION_SHA256

Place = Literal["released", "official", "torch"]
GROUPS = ("dub", "train", "eval")

_RELEASE = "https://github.com/OpenTalker/video-retalking/releases/download/v0.0.1/"
_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/v0.2.0/"
_FACE_ALIGNMENT = "https://www.adrianbulat.com/downloads/python-fan/"
_TORCHVISION = "https://download.pytorch.org/models/"
_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
_WAV2LIP = "the table of checkpoints in the README of github.com/Rudrabha/Wav2Lip"


@dataclass(frozen=True)
class ReleasedFile:
    """One released file.

    Attributes:
        url: its address.
        megabytes: its size, about: that of the tensors where no exact figure is known.
        groups: what it is needed for, of :data:`GROUPS`; none for what only ``all`` takes.
        sha256: its published digest, or the first digits of it where its name carries no more; "" where none
            is known.
        place: ``released`` waits there to be converted, ``official`` is used as it is, ``torch`` is where
            torchvision and face-alignment look for their weights.
    """

    url: str
    megabytes: int
    groups: tuple[str, ...] = ()
    sha256: str = ""
    place: Place = "released"

    def folder(self, released: Path) -> Path:
        """The folder in which the file belongs, where ``released`` is that of files to be converted."""
        if self.place == "torch":
            import torch

            return Path(torch.hub.get_dir()) / "checkpoints"
        return released if self.place == "released" else checkpoint_folder("official")


FILES: Mapping[str, ReleasedFile] = {
    "DNet.pt": ReleasedFile(_RELEASE + "DNet.pt", 91, ("dub",)),
    "LNet.pth": ReleasedFile(_RELEASE + "LNet.pth", 512, ("dub",)),
    "ENet.pth": ReleasedFile(_RELEASE + "ENet.pth", 647, ("dub",)),
    "face3d_pretrain_epoch_20.pth": ReleasedFile(
        _RELEASE + "face3d_pretrain_epoch_20.pth", 289, ("dub", "train")
    ),
    "expression.mat": ReleasedFile(_RELEASE + "expression.mat", 1, ("dub",)),
    "GFPGANv1.3.pth": ReleasedFile(
        _RELEASE + "GFPGANv1.3.pth",
        349,
        ("dub",),
        "c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70",
    ),
    "parsing_bisenet.pth": ReleasedFile(_FACEXLIB + "parsing_bisenet.pth", 56, ("dub",)),
    "30_net_gen.pth": ReleasedFile(_RELEASE + "30_net_gen.pth", 34, ("dub",)),
    "s3fd-619a316812.pth": ReleasedFile(
        _FACE_ALIGNMENT + "s3fd-619a316812.pth",
        90,
        ("dub", "train"),
        "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
        "torch",
    ),
    "2DFAN4-11f355bf06.pth.tar": ReleasedFile(
        _FACE_ALIGNMENT + "2DFAN4-11f355bf06.pth.tar",
        96,
        ("dub", "train"),
        "11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
        "torch",
    ),
    "GPEN-BFR-512.pth": ReleasedFile(_RELEASE + "GPEN-BFR-512.pth", 284, ("train",)),
    "vgg19-dcbb9e9d.pth": ReleasedFile(_TORCHVISION + "vgg19-dcbb9e9d.pth", 575, ("train",), "dcbb9e9d"),
    "syncnet_v2.model": ReleasedFile(
        "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
        61,
        ("eval",),
        "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
    ),
    INCEPTION: ReleasedFile(_FID + INCEPTION, 91, ("eval",), INCEPTION_SHA256, "official"),
    "alexnet-owt-7be5be79.pth": ReleasedFile(
        _TORCHVISION + "alexnet-owt-7be5be79.pth", 244, ("eval",), "7be5be79", "torch"
    ),
    "ParseNet-latest.pth": ReleasedFile(_RELEASE + "ParseNet-latest.pth", 85),
    "RetinaFace-R50.pth": ReleasedFile(
        _RELEASE + "RetinaFace-R50.pth",
        109,
        (),
        "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
    ),
}


@dataclass(frozen=True)
class HandedOut:
    """A file whose owner asks for a form or a cloud drive.

    Attributes:
        source: where a person gets it.
        groups: what it is needed for.
    """

    source: str
    groups: tuple[str, ...]


BY_HAND: Mapping[str, HandedOut] = {
    "wav2lip.pth": HandedOut(_WAV2LIP, ("eval",)),
    "wav2lip_gan.pth": HandedOut(_WAV2LIP, ("eval",)),
    "lipsync_expert.pth": HandedOut(_WAV2LIP, ("train",)),
    "visual_quality_disc.pth": HandedOut(_WAV2LIP, ("train",)),
    "backbone.pth": HandedOut(
        "arcface_torch of github.com/deepinsight/insightface (IResNet-50)", ("train", "eval")
    ),
}

# First bytes of what the files may be: a zip archive (PyTorch since 1.6), a pickle (before), a MATLAB file.
_HEADERS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"MATLAB")


def check_content(path: Path) -> None:
    """Refuse what servers and people put in place of a file of weights.

    Args:
        path: a file that exists.

    Raises:
        UserError: it is empty, a web page, or neither a PyTorch nor a MATLAB file.
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(512)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if not head:
        raise UserError(f"{path} is empty: delete it and fetch it again")
    if head.startswith(_HEADERS):
        return
    kind = "MATLAB" if path.suffix == ".mat" else "PyTorch"
    guess = " (an HTML page?)" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else ""
    raise UserError(f"{path} is not a {kind} file{guess}: delete it and fetch it again")
