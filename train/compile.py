"""torch.compile for the trained network, with one clear line where it cannot work."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn

from videoretalking.core.errors import UserError

BACKEND = "inductor"
_COMPILERS = ("g++", "clang++", "c++", "cl")


def compile_in_place(network: nn.Module, device: torch.device, backend: str | None = None) -> None:
    """Let calls of a network run through torch.compile; parameters, buffers and their names stay as they are.

    What copies the network (a moving average) copies the plain one.

    Args:
        network: the network.
        device: where it runs.
        backend: of torch.compile; None for :data:`BACKEND`.

    Raises:
        UserError: there is no C++ compiler, which the usual backend starts on every device.
    """
    backend = backend or BACKEND
    if backend == "inductor" and not has_compiler():
        raise UserError(
            f"loop.compile on {device.type} needs a C++ compiler, finds none ({', '.join(_COMPILERS)}, CXX): "
            "install one, or set loop.compile=false"
        )
    network.compile(backend=backend)


def has_compiler() -> bool:
    """Whether a C++ compiler can be found."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), *_COMPILERS) if name)
