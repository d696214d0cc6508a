"""``python -m scripts.parity --kit DIR``: prove exactness against a kit of golden data.

One line per network and seed, or per algorithm case; the last line counts what is within tolerance, and the exit
status is 0 only when everything is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.scripts.parity.algorithms import CASES, complaints, load_reader
from videoretalking.scripts.parity.kit import Kit
from videoretalking.scripts.parity.networks import network_error

_SHOWN_COMPLAINTS = 3


def check_networks(kit: Kit, names: Sequence[str], seeds: Sequence[int] | None) -> Iterator[bool]:
    """Run network goldens, print a line for each, yield whether it is within tolerance."""
    for name in names:
        tolerance = kit.spec(name)["tolerance"]
        for seed in seeds if seeds is not None else kit.seeds(name):
            try:
                error = network_error(kit, name, seed)
            except (UserError, ValueError) as problem:
                print(f"{name} seed {seed}: FAILED: {problem}", flush=True)
                yield False
                continue
            good = error <= tolerance
            verdict = "ok" if good else "TOO LARGE"
            print(f"{name} seed {seed}: error {error:.2e}, tolerance {tolerance:.0e}: {verdict}", flush=True)
            yield good


def check_algorithms(folder: Path) -> Iterator[bool]:
    """Run algorithm cases, print a line for each, yield whether it agrees; unknown cases count as failed."""
    reader = load_reader(folder)
    for case in reader.CASES:
        if case not in CASES:
            print(f"{case}: not built yet", flush=True)
            yield False
            continue
        found = complaints(reader, case)
        listed = "; ".join(found[:_SHOWN_COMPLAINTS])
        verdict = "ok" if not found else f"{len(found)} fields off: {listed}"
        print(f"{case}: {verdict} (tolerances of the kit)", flush=True)
        yield not found


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = CommandParser(description="Check exactness against a kit.")
    parser.add_argument("--kit", type=Path, required=True, help="kit folder, or its algorithms folder")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds to run (default: all the kit has)")
    parser.add_argument("--networks", nargs="+", help="networks to run (default: all the kit has)")
    parser.add_argument("--algorithms", action="store_true", help="run the algorithm cases instead")
    options = parser.parse_args(arguments)
    if not options.kit.is_dir():
        raise UserError(f"--kit {options.kit} is not a folder")
    if options.algorithms or (options.kit / "cases.py").is_file():
        nested = options.kit / "algorithms"
        results = list(check_algorithms(nested if nested.is_dir() else options.kit))
    else:
        kit = Kit(options.kit)
        unknown = sorted(set(options.networks or ()) - set(kit.names))
        if unknown or not kit.names:
            raise UserError(
                f"--kit {options.kit} has no network {', '.join(unknown) or 'at all'}, "
                f"it has: {', '.join(kit.names) or 'nothing'}"
            )
        results = list(check_networks(kit, options.networks or kit.names, options.seeds))
    print(f"{sum(results)} of {len(results)} within tolerance")
    return 0 if all(results) else 1


if __name__ == "__main__":
    run_command(main)
