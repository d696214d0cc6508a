"""Choice of device and number format, in one place."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from videoretalking.core.errors import UserError

# int8 concerns the heavy convolutions of large networks (models/int8.py); the rest is float32 then
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; any other name must be usable.

    A choice of CUDA also calls :func:`exact_float32`, so float32 means the same everywhere in this program.

    Raises:
        UserError: the named device does not exist here.
    """
    if name == "auto":
        device = torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    else:
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); try --device cpu"
            ) from None
    if device.type == "cuda":
        exact_float32()
    return device


def exact_float32() -> None:
    """Make float32 mean float32 in this process.

    Cards since Ampere otherwise round the inputs of convolutions to 10 bits (TF32) and still call it float32, which
    moves a result by a thousandth of its spread. Who wants speed asks for bfloat16 instead.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions are faster than float32 ones: AMX on the CPU, Ampere or later on CUDA."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and "amx_bf16" in _cpu_flags()


def has_fast_int8(device: torch.device) -> bool:
    """Whether int8 convolutions are there and faster than float32 ones: AVX-512 VNNI and PyTorch's oneDNN."""
    return (
        device.type == "cpu"
        and "avx512_vnni" in _cpu_flags()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.onednn, "qconv2d_pointwise")
        and hasattr(torch.ops.onednn, "qconv_prepack")
    )


def has_bfloat16_products(device: torch.device) -> bool:
    """Whether products of bfloat16 numbers are fast on a CPU though it has no AMX: AVX512-BF16 and oneDNN."""
    return device.type == "cpu" and "avx512_bf16" in _cpu_flags() and torch.backends.mkldnn.is_available()


def choose_dtype(name: str, device: torch.device, compiled: bool = False) -> torch.dtype:
    """``auto`` takes the fastest: bfloat16 on GPUs and AMX, int8 on other CPUs with VNNI, float32 elsewhere.

    Args:
        name: ``auto`` or one of :data:`DTYPES`.
        device: where the networks run.
        compiled: torch.compile is wanted, which does not go with int8.

    Raises:
        UserError: unknown name, or int8 where it cannot run.
    """
    if name == "auto":
        if has_fast_bfloat16(device):
            return torch.bfloat16
        return torch.int8 if has_fast_int8(device) and not compiled else torch.float32
    if name not in DTYPES:
        raise UserError(f"unknown number format {name!r}, choose auto, {', '.join(DTYPES)}")
    if name == "int8" and compiled:
        raise UserError("--dtype int8 does not go with --compile, leave one of them out")
    if name == "int8" and not has_fast_int8(device):
        raise UserError("--dtype int8 needs a CPU with AVX-512 VNNI; try --dtype auto")
    return DTYPES[name]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a tensor without waiting for the device: to CUDA it goes through page-locked memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.contiguous().pin_memory()  # an expanded one has no memory of its own
    return tensor.to(device, non_blocking=True)


class OwnStream:
    """Lets what is asked of a GPU here go before, and not after, all that other threads have queued there.

    For short work whose result the CPU waits for, beside long work of others. On other devices nothing changes.

    Args:
        device: where. What it was asked for until now is done before.
    """

    def __init__(self, device: torch.device | str) -> None:
        on_gpu = torch.device(device).type == "cuda"
        self._stream = torch.cuda.Stream(device, priority=-1) if on_gpu else None
        if self._stream is not None:  # for the weights
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    def __call__(self) -> AbstractContextManager[object]:
        """The block in which that holds; its tensors come from the CPU and go back there."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def cpu_name() -> str:
    """The processor's model and what it can do beside the usual, as far as the system tells."""
    text = _cpu_flags()
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "")
    flags = [flag for flag in ("avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8") if flag in text]
    return f"{name or platform.processor() or platform.machine()} ({', '.join(flags) or 'no such units'})"


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast context for reduced precision; does nothing for float32 and int8, which is no autocast format."""
    if dtype in (torch.float32, torch.int8):
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let PyTorch share each operation on the CPU among so many threads, at least one.

    Holds for this thread and for threads that begin in the block.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Parameters of glibc's mallopt and the values it works with after a large block was freed for the first time.
_TRIM_THRESHOLD, _TRIM_DEFAULT = -1, 64 * 2**20
_MMAP_THRESHOLD, _MMAP_THRESHOLD_DEFAULT = -3, 32 * 2**20
_MMAP_MAX, _MMAP_MAX_DEFAULT = -4, 65_536
_ARENA_MAX = -8


def keep_freed_memory(keep: bool = True) -> bool:
    """Whether the C library keeps large freed blocks for later instead of handing them back to the system.

    On CPUs the maps of the networks are fresh memory at every layer otherwise, whose first touch costs a fifth of
    the time. Concerns the whole process; only glibc can do it. Threads that begin later share the memory of the
    main thread, for what they have of their own goes back to the system whatever is asked.

    Args:
        keep: False brings the usual behavior back.

    Returns:
        Whether it had an effect.
    """
    wanted = {
        _TRIM_THRESHOLD: -1 if keep else _TRIM_DEFAULT,
        _MMAP_THRESHOLD: _MMAP_THRESHOLD_DEFAULT,
        _MMAP_MAX: 0 if keep else _MMAP_MAX_DEFAULT,
    }
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; TypeError on Windows
        return False
    if keep:  # there is no way back; other threads' own memory never stays
        wanted[_ARENA_MAX] = 1
    # a list, so that all are set even if one is refused
    return all([bool(mallopt(key, value)) for key, value in wanted.items()])


def return_freed_memory() -> bool:
    """Hand what :func:`keep_freed_memory` kept back to the system once, after work that will not come again.

    Returns:
        Whether the C library could.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # as above
        return False
    return bool(trim(0))
