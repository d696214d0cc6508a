"""What a run costs, whole and by stage: wall time, CPU time of all threads, system time, page faults, memory.

The stages of the main job overlap in threads, where a CPU-second cannot be told to belong to one of them. So a job
is run twice. As it is, for what it costs as a whole (:func:`usage`); then under an :class:`Account`, which the job
takes for its stopwatch and which lets one stage work at a time. Then all that the process uses between the begin
and the end of a stage is that stage's, with the threads that PyTorch and OpenCV start for it. Only the threads of
FFmpeg's decoder and encoder work on behind other stages; they are counted one by one, where the system tells.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from videoretalking.pipeline.stream import Stopwatch

REST = "rest"
DECODE, ENCODE = "decode", "encode"
_TASKS = Path("/proc/self/task")
_DECODER_THREAD = "av:"  # how FFmpeg calls the threads of its decoders
_CLEAR_PEAK = "5"  # see clear_refs in proc(5)


@dataclass(frozen=True)
class Usage:
    """What a process has used so far, or between two readings.

    Attributes:
        wall: seconds of the clock.
        user: CPU seconds of all threads in the program.
        system: CPU seconds of all threads in the system.
        faults: pages that were mapped at their first touch.
    """

    wall: float = 0.0
    user: float = 0.0
    system: float = 0.0
    faults: int = 0

    @property
    def cpu(self) -> float:
        """User and system time."""
        return self.user + self.system

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.wall + other.wall,
            self.user + other.user,
            self.system + other.system,
            self.faults + other.faults,
        )

    def __sub__(self, other: Usage) -> Usage:
        return self + Usage(-other.wall, -other.user, -other.system, -other.faults)


def usage() -> Usage:
    """The reading of now; without system time and faults on Windows."""
    try:
        import resource
    except ImportError:
        return Usage(time.perf_counter(), time.process_time())
    facts = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(time.perf_counter(), facts.ru_utime, facts.ru_stime, facts.ru_minflt)


def usage_of_all() -> Usage:
    """The reading with that of the processes that this one started; takes longer, by the number of its threads."""
    return sum(map(_usage_of, _children()), usage())


def _children() -> list[int]:
    """Processes that this one started and that still run, where the system tells."""
    with suppress(OSError):
        return [
            int(number) for task in _TASKS.iterdir() for number in (task / "children").read_text().split()
        ]
    return []


def _usage_of(process: int) -> Usage:
    """What another process has used, on Linux."""
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        faults, user, system = (int(fields[place]) for place in (7, 11, 12))
        ticks = os.sysconf("SC_CLK_TCK")
        return Usage(user=user / ticks, system=system / ticks, faults=faults)
    return Usage()


class Account(Stopwatch):
    """A stopwatch under which one stage works at a time, and which books all that the process uses.

    A stage inside of another is booked apart from it.

    Attributes:
        spent: of each stage, ``rest`` for what lies outside of all; they add up to the whole.

    Args:
        device: of the networks; a GPU is waited for where a stage begins and ends.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.spent: dict[str, Usage] = {}
        self._device = device
        self._turn = threading.RLock()
        self._stages: list[str] = []
        self._codecs = CodecThreads()
        self._last = usage()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Wait for the stage's turn and book the block."""
        with self._turn:
            self._book()
            self._stages.append(stage)
            start = time.perf_counter()
            try:
                yield
            finally:
                self._book()
                self._stages.pop()
                self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    @contextmanager
    def running(self) -> Iterator[None]:
        """The whole job; what was used before it does not count."""
        self._codecs.news(None)
        self._last = usage()
        yield
        with self._turn:
            self._book()

    @property
    def total(self) -> Usage:
        """The whole."""
        return sum(self.spent.values(), Usage())

    def _book(self) -> None:
        """Book what was used since the last reading for the stage that runs."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        stage = self._stages[-1] if self._stages else REST
        now = usage()
        used = now - self._last
        self._last = now
        for codec, seconds in self._codecs.news(stage).items():
            if codec != stage:
                share = min(1.0, seconds / used.cpu) if used.cpu else 0.0
                behind = Usage(user=share * used.user, system=share * used.system)
                used -= behind
                self.spent[codec] = self.spent.get(codec, Usage()) + behind
        self.spent[stage] = self.spent.get(stage, Usage()) + used


@dataclass
class CodecThreads:
    """CPU seconds of the threads that FFmpeg's decoder and encoder keep; nothing where the system does not tell."""

    _stage_of: dict[str, str] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    def news(self, stage: str | None) -> dict[str, float]:
        """CPU seconds of the threads of decoder and encoder since the last call.

        Args:
            stage: that worked since then; threads that the encoder's work started are the encoder's. None for what
                came before the job.
        """
        with suppress(OSError):
            for task in _TASKS.iterdir():
                if task.name not in self._known:
                    self._known.add(task.name)
                    self._adopt(task, stage)
        used: dict[str, float] = {}
        for name, owner in self._stage_of.items():
            with suppress(
                OSError, ValueError
            ):  # it has ended; what it used last was booked for the stage then
                now = int((_TASKS / name / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
                used[owner] = used.get(owner, 0.0) + now - self._seconds.get(name, 0.0)
                self._seconds[name] = now
        return used

    def _adopt(self, task: Path, stage: str | None) -> None:
        with suppress(OSError):
            if (task / "comm").read_text(encoding="utf-8").startswith(_DECODER_THREAD):
                self._stage_of[task.name] = DECODE
            elif stage == ENCODE:
                self._stage_of[task.name] = ENCODE


class Arrivals(Stopwatch):
    """The plain stopwatch of the main job, which also notes when each frame reaches the encoder.

    Attributes:
        times: readings of the clock, one a frame and one for the end of the encoder.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """As :class:`Stopwatch`."""
        if stage == ENCODE:
            self.times.append(time.perf_counter())
        with super().__call__(stage):
            yield


def reset_peak(device: torch.device) -> None:
    """Let the peak of memory begin anew, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, float]:
    """Peak of the resident memory since :func:`reset_peak` (else of the process), and of the GPU, in GiB.

    With that of the processes that this one started, but for their memory of the GPU.
    """
    memory: dict[str, float] = {}
    for process in ("self", *_children()):
        with suppress(OSError, KeyError):  # one that has ended has no memory
            lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
            facts = dict(line.split(":", 1) for line in lines)
            peak = int(facts["VmHWM"].split()[0]) / 2**20
            memory["process_gib"] = memory.get("process_gib", 0.0) + peak
    if device.type == "cuda":
        memory["gpu_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return memory
