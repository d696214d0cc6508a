"""Reader of a parity kit's network part: reproducible weights and inputs, golden outputs, errors.

A kit holds one folder per network: ``keys.json`` lists the tensors of the released file with a recipe for each,
``golden_seed<N>.npz`` condenses the outputs that the published network computed for the weights and inputs of
seed N. Every number follows from the raw PCG64 stream by exact arithmetic, so it is the same on every machine.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.arrays import Floats64, Ints64
from videoretalking.core.errors import UserError

Array = npt.NDArray[Any]

_NUM_CHUNKS = 64
_POWER_ITERATIONS = 30
_LANES = (0, 16, 32, 48)
# four uniform 16-bit lanes: their sum has this mean and standard deviation
_LANE_SUM_MEAN, _LANE_SUM_STD = 131070, 37837.2
_IMAGE_CELL = 16  # pixels between the nodes of the smooth test images


class Kit:
    """The networks of one kit folder.

    Args:
        root: folder with one sub-folder per network.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = sorted(path.parent.name for path in root.glob("*/keys.json"))

    def spec(self, name: str) -> dict[str, Any]:
        """The content of ``<name>/keys.json``."""
        try:
            spec: dict[str, Any] = json.loads((self.root / name / "keys.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(f"parity kit {self.root}: cannot read {name}/keys.json ({error})") from None
        return spec

    def seeds(self, name: str) -> list[int]:
        """Seeds for which the kit holds golden outputs of a network."""
        stems = (path.stem for path in (self.root / name).glob("golden_seed*.npz"))
        return sorted(int(stem.removeprefix("golden_seed")) for stem in stems)

    def released_files(self, name: str, seed: int) -> dict[str, dict[str, Any]]:
        """Stand-ins for the released files, ready for ``torch.save``: real nesting, prefix and omissions."""
        spec = self.spec(name)
        state = fill_state(spec["keys"], seed)
        files = {}
        for layout in spec["checkpoints"]:
            part = {
                layout["prefix"] + key.removeprefix(layout["only"]): value
                for key, value in state.items()
                if key.startswith(layout["only"]) and not any(skip in key for skip in layout["skip"])
            }
            files[layout["file"]] = {layout["outer_key"]: part} if layout["outer_key"] else part
        return files

    def inputs(self, name: str, seed: int) -> dict[str, torch.Tensor]:
        """Float32 inputs by name."""
        spec = self.spec(name)
        family = spec.get("input_family", name)
        return {
            key: torch.from_numpy(_fill_input(recipe, f"{family}/{key}", seed).astype(np.float32))
            for key, recipe in spec["inputs"].items()
        }

    def golden(self, name: str, seed: int) -> dict[str, Array]:
        """The stored figures of one network and seed."""
        try:
            with np.load(self.root / name / f"golden_seed{seed}.npz") as archive:
                return {key: archive[key] for key in archive.files}
        except OSError:
            raise UserError(
                f"parity kit {self.root} has no golden outputs of {name} for seed {seed}, "
                f"only for {self.seeds(name)}"
            ) from None


def fill_state(keys: list[dict[str, Any]], seed: int) -> dict[str, torch.Tensor]:
    """The synthetic state dict of ``keys.json`` for one seed, under the released names."""
    state: dict[str, torch.Tensor] = {}
    vectors: dict[str, tuple[Array, Array]] = {}
    for entry in keys:
        name, recipe = entry["name"], entry["fill"]
        if recipe["kind"] in ("spectral_u", "spectral_v"):
            weight = recipe["of"]
            if weight not in vectors:
                vectors[weight] = _singular_vectors(state[weight].numpy(), f"{weight}/u", seed)
            values = vectors[weight][recipe["kind"] == "spectral_v"]
        else:
            values = _fill_tensor(recipe, name, seed, tuple(entry["shape"]))
        state[name] = torch.from_numpy(np.array(values)).to(getattr(torch, entry["dtype"]))
    return state


def largest_error(golden: Mapping[str, Array], outputs: Mapping[str, torch.Tensor]) -> float:
    """Largest deviation of any output, in units of that output's standard deviation.

    Compared are the sampled values, the means of 64 equal slices, and mean, standard deviation, minimum and
    maximum of the whole tensor.

    Raises:
        ValueError: a missing output, a wrong shape, or a value that is not finite.
    """
    return max(error for _, error in _errors(golden, outputs))


def _errors(golden: Mapping[str, Array], outputs: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, float]]:
    names = [key.removesuffix(".shape") for key in golden if key.endswith(".shape")]
    for name in names:
        if name not in outputs:
            raise ValueError(f"output {name!r} is missing, the network gave {sorted(outputs)}")
        output = outputs[name].detach().double().cpu().numpy()
        if output.shape != tuple(golden[f"{name}.shape"]):
            raise ValueError(
                f"output {name!r} has shape {output.shape}, expected {tuple(golden[f'{name}.shape'])}"
            )
        if not np.isfinite(output).all():
            raise ValueError(f"output {name!r} holds values that are not finite")
        flat = output.ravel()
        chunks = np.array_split(flat, min(_NUM_CHUNKS, flat.size))
        deviations = (
            flat[golden[f"{name}.index"]] - golden[f"{name}.value"],
            np.array([chunk.mean() for chunk in chunks]) - golden[f"{name}.chunk_mean"],
            np.array([flat.mean(), flat.std(), flat.min(), flat.max()]) - golden[f"{name}.stats"],
        )
        std = float(golden[f"{name}.stats"][1])
        yield name, max(float(np.abs(deviation).max()) for deviation in deviations) / std


def _stream(tag: str, seed: int, count: int) -> npt.NDArray[np.uint64]:
    """``count`` raw 64-bit words that depend on ``tag`` and ``seed`` only."""
    sequence = np.random.SeedSequence([zlib.crc32(tag.encode()), seed])
    words: npt.NDArray[np.uint64] = np.random.PCG64(sequence).random_raw(count)
    return words


def _near_normal(tag: str, seed: int, count: int) -> Floats64:
    words = _stream(tag, seed, count)
    total = np.zeros(count, dtype=np.int64)
    for shift in _LANES:
        total += ((words >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    return (total - _LANE_SUM_MEAN) / _LANE_SUM_STD


def _uniform(tag: str, seed: int, count: int) -> Floats64:
    return (_stream(tag, seed, count) >> np.uint64(40)).astype(np.float64) / float(1 << 24)


def _fill_tensor(recipe: Mapping[str, Any], tag: str, seed: int, shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape, dtype=np.int64))
    kind = recipe["kind"]
    values: Array
    if kind == "normal":
        values = recipe.get("mean", 0.0) + recipe["std"] * _near_normal(tag, seed, count)
    elif kind == "uniform":
        values = recipe["low"] + (recipe["high"] - recipe["low"]) * _uniform(tag, seed, count)
    elif kind == "constant":
        values = np.full(count, recipe["value"], dtype=np.float64)
    elif kind == "blur":
        taps = np.array([1.0, 3.0, 3.0, 1.0])
        values = recipe["scale"] * np.outer(taps, taps) / taps.sum() ** 2
    else:
        raise UserError(f"parity kit: unknown recipe {kind!r} of {tag!r}")
    return values.reshape(shape)


def _fill_input(recipe: Mapping[str, Any], tag: str, seed: int) -> Array:
    kind = recipe["kind"]
    if kind == "concat":
        parts = [_fill_input(part, f"{tag}/{index}", seed) for index, part in enumerate(recipe["parts"])]
        return np.concatenate(parts, axis=recipe["axis"])
    shape = tuple(recipe["shape"])
    if kind == "image":
        image = recipe["low"] + (recipe["high"] - recipe["low"]) * (_smooth_image(tag, seed, shape) / 255.0)
        if recipe.get("mask_lower_half"):
            image[..., shape[-2] // 2 :, :] = 0.0
        return image
    values = _fill_tensor(recipe, tag, seed, shape)
    limit = recipe.get("clip")
    return values if limit is None else np.clip(values, -limit, limit)


def _smooth_image(tag: str, seed: int, shape: tuple[int, ...]) -> Ints64:
    """Bilinear enlargement of a coarse random grid plus mild noise, 8 bit, in integer arithmetic."""
    height, width = shape[-2:]
    planes = int(np.prod(shape[:-2], dtype=np.int64))
    nodes = (planes, height // _IMAGE_CELL + 2, width // _IMAGE_CELL + 2)
    grid = (
        (_stream(f"{tag}/grid", seed, int(np.prod(nodes))) >> np.uint64(56)).astype(np.int64).reshape(nodes)
    )
    row, below = np.divmod(np.arange(height), _IMAGE_CELL)
    column, right = np.divmod(np.arange(width), _IMAGE_CELL)
    rows = grid[:, row] * (_IMAGE_CELL - below)[:, None] + grid[:, row + 1] * below[:, None]
    smooth = (rows[:, :, column] * (_IMAGE_CELL - right) + rows[:, :, column + 1] * right) // _IMAGE_CELL**2
    noise = (_stream(f"{tag}/noise", seed, smooth.size) >> np.uint64(59)).astype(np.int64)
    return np.clip(smooth + noise.reshape(smooth.shape) - 16, 0, 255).reshape(shape)


def _singular_vectors(weight: Array, tag: str, seed: int) -> tuple[Array, Array]:
    """Left and right vectors of the largest singular value by power iteration, in float64."""
    matrix = weight.reshape(len(weight), -1).astype(np.float64)
    left = _unit(_near_normal(tag, seed, len(matrix)))
    right = _unit(left @ matrix)
    for _ in range(_POWER_ITERATIONS):
        left = _unit(matrix @ right)
        right = _unit(left @ matrix)
    return left, right


def _unit(vector: Array) -> Array:
    normed: Array = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return normed
