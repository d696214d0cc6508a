"""Verdicts on number formats, kept from run to run: a trial costs seconds.

A file holds for one network: for its weights, this CPU, this PyTorch, and this program. It names the convolutions
that run in int8, with the factors that balance their channels, and those that run in bfloat16.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from videoretalking import __version__
from videoretalking.core.devices import cpu_name
from videoretalking.core.files import atomic_path
from videoretalking.models.bfloat16 import float32_convs
from videoretalking.models.int8 import heavy_convs

logger = logging.getLogger(__name__)

_VERSION = 3  # raise when networks are rewritten otherwise, or formats mean something else
_SUFFIX = ".npz"
_SAMPLES = 4096  # numbers of each weight in its digest, beside the sum of all


@dataclass(frozen=True)
class Verdict:
    """The formats of one network.

    Attributes:
        int8: path -> factors that its channels are divided by.
        bfloat16: paths.
        text: for the log.
    """

    int8: Mapping[str, torch.Tensor | None]
    bfloat16: tuple[str, ...]
    text: str

    def apply(self, network: nn.Module) -> bool:
        """Change the convolutions of a network in float32; False, and nothing is changed, if it has others."""
        heavy = {conv.path: conv for conv in heavy_convs(network)}
        small = {conv.path: conv for conv in float32_convs(network)}
        if not (self.int8.keys() <= heavy.keys() and small.keys() >= set(self.bfloat16)):
            return False
        for path, balance in self.int8.items():
            heavy[path].balance = balance
            heavy[path].to_int8()
        for path in self.bfloat16:
            small[path].to_bfloat16()
        return True


def verdict_file(folder: Path | None, network: nn.Module, terms: str) -> Path | None:
    """Where the verdict on a network stands or will stand; None without a folder.

    Args:
        folder: of all verdicts.
        network: as it is before the trial.
        terms: of the trial.
    """
    if folder is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    facts = [__version__, _VERSION, terms, torch.__version__, torch.__config__.show(), cpu_name()]
    digest.update(json.dumps(facts).encode())
    for path, tensor in network.state_dict().items():
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLES)].double().numpy()
        digest.update(f"{path} {tuple(tensor.shape)} {_total(flat)}".encode())
        digest.update(np.ascontiguousarray(sample).tobytes())
    return folder / f"{type(network).__name__.lower()}_{digest.hexdigest()}{_SUFFIX}"


def _total(values: torch.Tensor) -> int:
    """A sum that does not depend on its order, and so not on the number of threads."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    return int(values.contiguous().view(integers).sum(dtype=torch.int64))


def load_verdict(file: Path | None) -> Verdict | None:
    """What :func:`store_verdict` wrote; None if there is nothing usable."""
    if file is None:
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            balances = [stored[str(number)] for number in range(len(facts["int8"]))]
        int8 = {
            path: torch.from_numpy(balance) if len(balance) else None
            for path, balance in zip(facts["int8"], balances, strict=True)
        }
        return Verdict(int8, tuple(facts["bfloat16"]), f"{facts['text']}, as found before")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        logger.warning("%s is damaged (%s); the number format is tried again", file, error)
        return None


def store_verdict(file: Path | None, verdict: Verdict) -> None:
    """Keep a verdict; where that cannot be, the next run tries again."""
    if file is None:
        return
    facts = {"int8": list(verdict.int8), "bfloat16": list(verdict.bfloat16), "text": verdict.text}
    arrays = {
        str(number): np.zeros(0, np.float32) if balance is None else balance.numpy()
        for number, balance in enumerate(verdict.int8.values())
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)
    except OSError as error:
        logger.warning("verdicts cannot be kept in %s (%s)", file.parent, error.strerror or error)


def forget_verdicts(folder: Path) -> int:
    """Delete all verdicts, so that the next run measures anew; how many there were."""
    files = list(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)
