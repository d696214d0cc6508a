"""Who does the work of a preprocessing step: processes and GPUs of this machine, or a Ray cluster."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from videoretalking.core.cluster import run_on_ray, whole_gpus
from videoretalking.core.workers import Build, Finished, Place, run_locally, usable_cpus

Item = TypeVar("Item")
Value = TypeVar("Value")

AUTO = "auto"


@dataclass(frozen=True)
class Crew:
    """The workers of a step.

    Attributes:
        processes: worker processes for work on the CPU; 0 works in this process, for debugging.
        devices: one worker for each, for work with networks: ``cpu``, ``cuda:0``, ``cuda:1`` ...; a device that is
            named twice gets two. Empty takes all GPUs, or ``processes`` workers on the CPU where there is none.
        cluster: whether a Ray cluster does the work, with one worker a CPU, or a GPU for work with networks if
            it has any and ``devices`` does not begin with ``cpu``.
    """

    processes: int = 1
    devices: tuple[str, ...] = ()
    cluster: bool = False

    def run(
        self,
        build: Build[Item, Value],
        items: Sequence[Item],
        networks: bool,
        report: Callable[[Sequence[Item]], None],
    ) -> Generator[Finished[Item, Value]]:
        """Have items done.

        Args:
            build: see :data:`core.workers.Build`.
            items: what to do.
            networks: whether the work belongs on GPUs.
            report: told the items under way, the oldest first.

        Yields:
            Every item once, as they are finished.
        """
        if not items:
            return
        if self.cluster:
            gpus = whole_gpus() if networks and self.devices[:1] != ("cpu",) else 0.0
            yield from run_on_ray(build, items, gpus_per_worker=gpus, report=report)
        elif self.processes == 0:
            work = build(self.places(networks)[0].device)
            for item in items:
                report([item])
                yield Finished(item, work(item))
        else:
            yield from run_locally(build, items, self.places(networks), report)

    def places(self, networks: bool) -> list[Place]:
        """Where the local workers run."""
        processes = max(1, self.processes)
        if not networks:
            return [Place()] * processes
        devices = self.devices or visible_gpus() or ("cpu",) * processes
        return [Place(device, max(1, usable_cpus() // len(devices))) for device in devices]


def visible_gpus() -> tuple[str, ...]:
    """``cuda:0``, ``cuda:1`` ... of this machine; asks the driver without occupying any of them."""
    import torch

    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def parse_devices(text: str) -> tuple[str, ...]:
    """``cuda:0,cuda:1`` -> its parts; ``auto`` -> none, which leaves the choice to :class:`Crew`.

    Raises:
        argparse.ArgumentTypeError: a device that is not here, or no device at all.
    """
    if text == AUTO:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    gpus = visible_gpus()
    for name in names:
        if name not in ("cpu", "mps", *gpus):
            there = ", ".join(gpus) or "no GPU"
            raise argparse.ArgumentTypeError(
                f"{name!r} is no device of this machine, which has {there}: give auto, or a list like cuda:0,cuda:1"
            )
    return names


def add_crew(parser: argparse.ArgumentParser, networks: bool = True) -> None:
    """Options that say who does the work; ``--devices`` only where there is work for networks."""
    parser.add_argument(
        "--processes",
        type=_count,
        default=os.cpu_count() or 1,
        help="workers on the CPU; 0 works in the program's own process (default: %(default)s)",
    )
    if networks:
        parser.add_argument(
            "--devices",
            type=parse_devices,
            default=(),
            metavar="LIST",
            help="one worker for each runs the networks, such as cuda:0,cuda:1 (default: all GPUs, or the CPU)",
        )
    parser.add_argument(
        "--cluster", choices=("ray",), help="spread the items over a Ray cluster instead (extra cluster)"
    )


def read_crew(arguments: argparse.Namespace) -> Crew:
    """What the options of :func:`add_crew` say."""
    values: dict[str, Any] = {"devices": getattr(arguments, "devices", ())}
    return Crew(arguments.processes, cluster=arguments.cluster == "ray", **values)


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, is {count}")
    return count
