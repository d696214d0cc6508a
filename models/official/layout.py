"""How a released file maps to one of our networks: the vocabulary of the key tables and the strict mapper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from videoretalking.core.errors import UserError

# Where torch keeps the tensors of a spectrally normalized weight, and how released files call them.
SPECTRAL_WEIGHT = "parametrizations.weight.original"
SPECTRAL_RIGHT = "parametrizations.weight.0._v"
SPECTRAL_LEAVES = {
    "weight_orig": SPECTRAL_WEIGHT,
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": SPECTRAL_RIGHT,
}


@dataclass(frozen=True)
class Layout:
    """One released file and the network it fills.

    Attributes:
        network: our name of the network (``models.catalog``).
        files: names under which the released file is known; the first is the usual one.
        modules: official module prefix -> our module prefix; the longest matching prefix wins and the rest of
            the key is kept. Every official tensor must be matched here or by ``unused``.
        outer_keys: names of the entry that holds the state dict, first found wins; empty when flat.
        strip: prefix that may stand before every key.
        skip: keys that contain one of these are not part of this network.
        unused: official prefixes of tensors that never reach an output; dropped by name.
        constants: official tensors that are built into our network -> the value that they must have.
        leaves: official last part of a key -> ours, e.g. of spectrally normalized weights.
        flip_inputs: our tensors whose input channels come in BGR triples and are turned into RGB.
        flip_outputs: our tensors whose output channels come in BGR triples and are turned into RGB.
        squeeze: our tensors that the release stores with further axes of size 1.
        license: license and source of the released weights, one line.
    """

    network: str
    files: tuple[str, ...]
    modules: Mapping[str, str]
    license: str
    outer_keys: tuple[str, ...] = ()
    strip: str = "module."
    skip: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    constants: Mapping[str, torch.Tensor] = field(default_factory=dict)
    leaves: Mapping[str, str] = field(default_factory=dict)
    flip_inputs: tuple[str, ...] = ()
    flip_outputs: tuple[str, ...] = ()
    squeeze: tuple[str, ...] = ()


def unwrap(payload: Any, layout: Layout, where: str) -> dict[str, torch.Tensor]:
    """The flat official state dict inside a loaded file.

    Args:
        payload: what ``torch.load`` returned.
        layout: the table of the network.
        where: file name for errors.

    Raises:
        UserError: the file does not have the nesting of this network's release.
    """
    if not isinstance(payload, Mapping):
        raise UserError(f"{where} holds a {type(payload).__name__}, not the state dict of {layout.network}")
    for outer in layout.outer_keys:
        if isinstance(payload.get(outer), Mapping):
            payload = payload[outer]
            break
    else:
        if layout.outer_keys:
            raise UserError(
                f"{where} has no entry {' or '.join(map(repr, layout.outer_keys))}: not the released file "
                f"of {layout.network}"
            )
    state = {str(key).removeprefix(layout.strip): value for key, value in payload.items()}
    wrong = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise UserError(
            f"{where} holds entries that are not tensors, e.g. {wrong[0]!r}: not a file of {layout.network}"
        )
    return {key: value for key, value in state.items() if not any(part in key for part in layout.skip)}


def rename(
    official: Mapping[str, torch.Tensor], layout: Layout, expected: Mapping[str, torch.Tensor], where: str
) -> dict[str, torch.Tensor]:
    """Map an official state dict to ours, strictly both ways.

    Args:
        official: flat official state dict (see :func:`unwrap`).
        layout: the table of the network.
        expected: our network's own state dict, for names and shapes.
        where: file name for errors.

    Returns:
        A state dict with exactly the keys of ``expected``.

    Raises:
        UserError: left-over, missing or wrongly shaped tensors; the message lists them.
    """
    state: dict[str, torch.Tensor] = {}
    left_over: list[str] = []
    used_unused: set[str] = set()
    for key, value in official.items():
        dropped = [prefix for prefix in layout.unused if _is_under(key, prefix)]
        if dropped:
            used_unused.update(dropped)
            continue
        if key in layout.constants:
            if not torch.equal(value.float(), layout.constants[key]):
                raise UserError(
                    f"{where}: {key} of {layout.network} differs from the value built into the network"
                )
            continue
        name = _our_name(key, layout)
        if name is None or name not in expected:
            left_over.append(key)
        else:
            state[name] = value
    missing = [name for name in expected if name not in state]
    missing += [key for key in layout.constants if key not in official]
    missing += [
        f"{prefix} (unused, but part of the release)" for prefix in layout.unused if prefix not in used_unused
    ]
    if left_over or missing:
        raise UserError(
            f"{where} does not match the released layout of {layout.network}: "
            f"{_listing('left over', left_over)}; {_listing('missing', missing)}"
        )
    for name in layout.squeeze:
        if state[name].squeeze().shape == expected[name].squeeze().shape:
            state[name] = state[name].reshape(expected[name].shape)
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise UserError(
                f"{where}: {name} of {layout.network} has shape {tuple(tensor.shape)}, "
                f"expected {tuple(expected[name].shape)}"
            )
    for name in layout.flip_inputs:
        state[name] = _flip_input(state, name)
    for name in layout.flip_outputs:
        state[name] = flip_triples(state[name], dim=0)
    return state


def flip_triples(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """Reverse every group of three consecutive channels along ``dim`` (BGR <-> RGB); its own inverse."""
    triples = tensor.unflatten(dim, (-1, 3))
    return triples.flip(dim + 1).flatten(dim, dim + 1).contiguous()


def _flip_input(state: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    tensor = state[name]
    if not name.endswith(SPECTRAL_RIGHT):
        return flip_triples(tensor, dim=1)
    # the right vector of spectral normalization belongs to the weight flattened to [out, in * k * k]
    weight = state[name.removesuffix(SPECTRAL_RIGHT) + SPECTRAL_WEIGHT]
    return flip_triples(tensor.reshape(1, *weight.shape[1:]), dim=1).flatten()


def _is_under(key: str, prefix: str) -> bool:
    return key == prefix or key.startswith(prefix + ".")


def _our_name(key: str, layout: Layout) -> str | None:
    prefix = key
    while prefix not in layout.modules:
        prefix, dot, _ = prefix.rpartition(".")
        if not dot:
            return None
    rest = key[len(prefix) :].lstrip(".")
    leaf = layout.leaves.get(rest, rest)
    return ".".join(part for part in (layout.modules[prefix], leaf) if part)


def _listing(label: str, names: list[str]) -> str:
    return f"{len(names)} {label}" + (f" ({', '.join(names)})" if names else "")
