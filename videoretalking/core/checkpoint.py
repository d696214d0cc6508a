"""Self-describing checkpoints: one safetensors file whose metadata names the network and holds its config.

Files are written to a temporary name and moved into place, so a file under its final name is always whole.
Foreign pickles are read with ``weights_only=True`` only and never run code.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path

FORMAT = "videoretalking"
FORMAT_VERSION = 1


def save_checkpoint(
    path: str | Path,
    state: Mapping[str, torch.Tensor],
    *,
    network: str,
    config: Mapping[str, Any],
    license: str,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write tensors with their description, atomically.

    Args:
        path: target, usually ``*.safetensors``.
        state: state dict; tensors are copied to the CPU and made contiguous.
        network: name of the network class as in ``models.catalog``.
        config: the network's full config as a plain dictionary.
        license: license and origin of the weights, one line.
        extra: further facts (training step, figures, source checksum); JSON-serializable.
    """
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "network": network,
        "config": json.dumps(dict(config), sort_keys=True),
        "license": license,
        "extra": json.dumps(dict(extra or {}), sort_keys=True),
    }
    # clone() also separates tensors that share storage, which safetensors refuses to store
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    with atomic_path(path) as temporary:
        # the library's own file writer makes files that only their owner can read
        temporary.write_bytes(save(tensors, metadata=metadata))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Network name, config, license, extra and format version of a checkpoint, without its tensors.

    Raises:
        UserError: not a file, not safetensors or truncated, not ours, or of a future format.
    """
    with _open(path) as archive:
        return _parse_metadata(path, archive.metadata())


def read_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and metadata of a checkpoint; errors as in :func:`read_metadata`."""
    with _open(path) as archive:
        metadata = _parse_metadata(path, archive.metadata())
        return {key: archive.get_tensor(key) for key in archive.keys()}, metadata  # noqa: SIM118


@contextmanager
def _open(path: str | Path) -> Iterator[Any]:
    if not Path(path).is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        with safe_open(str(path), framework="pt") as archive:
            yield archive
    except SafetensorError as error:
        raise UserError(
            f"checkpoint {path} is damaged or not a safetensors file ({error}); "
            "convert released files with scripts.convert_official, or fetch the file again"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror or error}") from None


def _parse_metadata(path: str | Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    if not metadata or metadata.get("format") != FORMAT:
        raise UserError(f"checkpoint {path} was not written by this project: it has no '{FORMAT}' metadata")
    try:
        version = int(metadata["format_version"])
    except (KeyError, ValueError):
        raise UserError(f"checkpoint {path} has no readable format version") from None
    if version > FORMAT_VERSION:
        raise UserError(
            f"checkpoint {path} has format version {version}, this program reads up to {FORMAT_VERSION}: "
            "update the program"
        )
    try:
        return {
            "network": metadata["network"],
            "config": json.loads(metadata["config"]),
            "license": metadata.get(
                "license", metadata.get("licence", "")
            ),  # files of version 0.1 spell it so
            "extra": json.loads(metadata.get("extra", "{}")),
            "format_version": version,
        }
    except (KeyError, json.JSONDecodeError) as error:
        raise UserError(f"checkpoint {path} has damaged metadata: {error}") from None


def read_foreign(path: str | Path) -> Any:
    """Read a released PyTorch file without running any code in it.

    Raises:
        UserError: missing, truncated, not a PyTorch file, or one that needs code to load.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"released file {path} does not exist")
    if path.stat().st_size == 0:
        raise UserError(f"released file {path} is empty: fetch it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        if "Unsupported global" in str(error) or "Unsupported operand" in str(error):
            raise UserError(
                f"released file {path} wants to run code while loading and was refused; nothing was executed"
            ) from None
        raise UserError(f"released file {path} is not a PyTorch checkpoint or is damaged: {reason}") from None
    except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"released file {path} is damaged or not a PyTorch checkpoint: {reason}") from None
