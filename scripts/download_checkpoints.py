"""Fetch the released checkpoints where the network allows it.

``python -m scripts.download_checkpoints [NAME ...]`` resumes broken downloads, shows progress, records the
SHA-256 of every finished file in ``checkpoints/released/SHA256SUMS`` and verifies it on later runs. Files that
cannot be fetched by a program are listed with where to get them.
"""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.core.locations import checkpoint_folder
from videoretalking.scripts.convert_official import sha256

logger = logging.getLogger(__name__)

_RELEASE = "https://github.com/OpenTalker/video-retalking/releases/download/v0.0.1/"
_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/"

# File -> address. Sources and licenses: checkpoints/README.md.
SOURCES: Mapping[str, str] = {
    "DNet.pt": _RELEASE + "DNet.pt",
    "LNet.pth": _RELEASE + "LNet.pth",
    "ENet.pth": _RELEASE + "ENet.pth",
    "face3d_pretrain_epoch_20.pth": _RELEASE + "face3d_pretrain_epoch_20.pth",
    "expression.mat": _RELEASE + "expression.mat",
    "GPEN-BFR-512.pth": _RELEASE + "GPEN-BFR-512.pth",
    "GFPGANv1.3.pth": _RELEASE + "GFPGANv1.3.pth",
    "ParseNet-latest.pth": _RELEASE + "ParseNet-latest.pth",
    "RetinaFace-R50.pth": _RELEASE + "RetinaFace-R50.pth",
    "30_net_gen.pth": _RELEASE + "30_net_gen.pth",
    "parsing_bisenet.pth": _FACEXLIB + "v0.2.0/parsing_bisenet.pth",
    "s3fd-619a316812.pth": "https://www.adrianbulat.com/downloads/python-fan/s3fd-619a316812.pth",
    "syncnet_v2.model": "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
    "vgg19-dcbb9e9d.pth": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
}

# Files whose owners ask for a form or a cloud drive.
BY_HAND: Mapping[str, str] = {
    "wav2lip.pth": "the table of checkpoints in the README of github.com/Rudrabha/Wav2Lip",
    "wav2lip_gan.pth": "the table of checkpoints in the README of github.com/Rudrabha/Wav2Lip",
    "lipsync_expert.pth": "the table of checkpoints in the README of github.com/Rudrabha/Wav2Lip",
    "visual_quality_disc.pth": "the table of checkpoints in the README of github.com/Rudrabha/Wav2Lip",
    "backbone.pth": "arcface_torch of github.com/deepinsight/insightface (IResNet-50)",
}

_SUMS = "SHA256SUMS"
_BLOCK = 1 << 20
_TIMEOUT = 30.0


def fetch(url: str, target: Path) -> None:
    """Download ``url`` to ``target``, continuing a partial file where the server allows it.

    The bytes go to ``<target>.part``, which stays after a broken connection and is moved into place when whole.

    Raises:
        UserError: the address cannot be reached, or the connection broke; running again continues.
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            resumed = response.status == 206
            length = response.headers.get("Content-Length")
            total = int(length) + (have if resumed else 0) if length else None
            with (
                part.open("ab" if resumed else "wb") as handle,
                tqdm(
                    total=total, initial=have if resumed else 0, unit="B", unit_scale=True, desc=target.name
                ) as progress,
            ):
                while block := response.read(_BLOCK):
                    handle.write(block)
                    progress.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # "range not satisfiable": the partial file is already whole
            raise UserError(f"cannot fetch {url}: the server says {error.code} {error.reason}") from None
        total = have
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot fetch {url}: {reason}; run again to continue, or place the file in {target.parent} yourself"
        ) from None
    size = part.stat().st_size
    if total is not None and size != total:
        raise UserError(f"{url}: the connection ended after {size} of {total} bytes; run again to continue")
    part.replace(target)


def read_sums(folder: Path) -> dict[str, str]:
    """Recorded checksums by file name; the format is that of ``sha256sum``."""
    path = folder / _SUMS
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines if line.strip())}


def record(folder: Path, name: str) -> None:
    """Verify a file against its recorded checksum, or record it when it is new.

    Raises:
        UserError: the file differs from what was recorded.
    """
    digest = sha256(folder / name)
    sums = read_sums(folder)
    if sums.setdefault(name, digest) != digest:
        raise UserError(
            f"{folder / name} has SHA-256 {digest}, recorded was {sums[name]}: delete it and fetch it again, "
            f"or remove its line from {folder / _SUMS} if you replaced it on purpose"
        )
    with atomic_path(folder / _SUMS) as temporary:
        temporary.write_text("".join(f"{value}  {key}\n" for key, value in sorted(sums.items())))


def download(folder: Path, sources: Mapping[str, str]) -> list[str]:
    """Fetch what is missing in ``folder`` and verify what is there.

    Returns:
        One line per file that could not be fetched or verified.
    """
    failures = []
    for name, url in sources.items():
        try:
            if not (folder / name).exists():
                fetch(url, folder / name)
            record(folder, name)
            logger.info("%s is in place and verified", folder / name)
        except UserError as error:
            failures.append(str(error))
    return failures


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser(description="Fetch the released checkpoints.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"files (default: all): {', '.join(SOURCES)}"
    )
    parser.add_argument(
        "--dst", type=Path, default=checkpoint_folder("released"), help="target folder (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    for name in options.names:
        if name in BY_HAND:
            raise UserError(f"{name} cannot be fetched by a program; get it from {BY_HAND[name]}")
        if name not in SOURCES:
            raise UserError(f"unknown file {name!r}, choose from {', '.join(SOURCES)}")
    failures = download(options.dst, {name: SOURCES[name] for name in options.names or SOURCES})
    for name, place in BY_HAND.items():
        if not options.names and not (options.dst / name).exists():
            logger.info("%s must be fetched by hand, from %s, into %s", name, place, options.dst)
    if failures:
        raise UserError(f"{len(failures)} files are missing: " + "; ".join(failures))
    logger.info("next: python -m scripts.convert_official --src %s", options.dst)


if __name__ == "__main__":
    run_command(main)
