"""The figures as text and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from videoretalking.core.files import atomic_path
from videoretalking.scripts.benchmark.accounting import REST

Row = Mapping[str, Any]
Color = tuple[int, int, int]

_SCALE = 2  # everything is drawn so much larger and reduced, which smooths letters
_FONT = 14
_INK: Color = (40, 40, 40)
_COLORS: Sequence[Color] = (
    (31, 99, 166), (205, 92, 30), (74, 145, 88), (148, 103, 189), (188, 160, 50), (90, 170, 190), (200, 110, 150),
    (120, 90, 70), (150, 190, 110), (110, 130, 200), (180, 180, 90), (90, 90, 90),
)  # fmt: skip
_GRAY: Color = (140, 140, 140)
_REST: Color = (210, 210, 210)
_OTHERS = "others"
_SMALL = 0.01  # share below which a stage has no color of its own
_COLUMNS = 4  # of the legend
_LABEL, _BAR, _LINE, _MARGIN = 250, 520, 34, 20


def print_run(run: Row) -> None:
    """A run end to end: the whole in two lines, then its stages."""
    width, height = run["size"]
    moments = {"loaded": "loaded_memory", "first job": "cold_memory", "this one": "peak_memory"}
    memory = "; ".join(f"{name} {_memory(run[key])}" for name, key in moments.items())
    print(
        f"\n{run['name']}, {width}x{height}, {run['frames']} frames: {run['frames_per_second']:.2f} frames/s, "
        f"{run['cpu_seconds_a_frame']:.3f} CPU-seconds a frame, system {run['system_share']:.1%}\n"
        f"  first frame after {run['first_frame_seconds']:.2f} s (cold {run['cold_first_frame_seconds']:.2f}, "
        f"loading {run['load_seconds']:.2f}), {run['page_faults_a_frame']:.0f} page faults a frame\n"
        f"  peak of memory: {memory}"
    )
    if not run.get("stages"):
        return
    print(
        f"  {'one stage at a time':<22}{'CPU s':>9}{'share':>8}{'wall s':>9}{'share':>8}{'GFLOP':>8}{'of floor':>9}"
        "  computes in"
    )
    for row in run["stages"]:
        work = (
            f"{row['gflop']:>8.1f}{row['floor_share']:>9.0%}  {_ways(row['runs_in'])}"
            if "gflop" in row
            else ""
        )
        print(
            f"  {row['stage']:<22}{row['cpu']:>9.4f}{row['cpu_share']:>8.1%}{row['wall']:>9.4f}"
            f"{row['wall_share']:>8.1%}{work}"
        )
    whole = run["accounted"]
    print(f"  {'sum':<22}{whole['cpu']:>9.4f}{'':8}{whole['wall']:>9.4f}", flush=True)


def print_network(row: Row | None) -> None:
    """A line of the table of networks; None prints its heading."""
    if row is None:
        print(
            f"\n{'network':<16}{'size':>9}{'eager s':>10}{'shipped':>10}{'gain':>8}{'PSNR dB':>9}{'GFLOP':>8}"
            f"{'of floor':>9}  computes in"
        )
        return
    print(
        f"{row['name']:<16}{row['parameters']:>7.1f} M{row['eager']:>10.4f}{row['shipped']:>10.4f}"
        f"{row['speedup']:>7.2f}x{row['psnr']:>9.1f}{row['gflop']:>8.1f}{row['floor_share']:>9.0%}"
        f"  {_ways(row['runs_in'])}",
        flush=True,
    )


def draw(path: Path, results: Row) -> None:
    """The CPU-seconds of the stages of each run as bars, in one PNG; on a GPU the seconds of the clock."""
    runs = [run for run in results["runs"] if run.get("stages")]
    measure = "wall" if "gpu_gib" in runs[0]["peak_memory"] else "cpu"
    shares = [_shares(run, measure) for run in runs]
    stages = [name for name in dict.fromkeys(name for bar in shares for name in bar) if name != REST]
    large = [name for name in stages if any(bar.get(name, 0.0) >= _SMALL for bar in shares)]
    colors = dict(zip(large, cycle(_COLORS), strict=False)) | {_OTHERS: _GRAY, REST: _REST}
    height = 4 * _MARGIN + (len(runs) + -(-len(colors) // _COLUMNS)) * _LINE
    image = Image.new("RGB", ((_LABEL + _BAR + 150) * _SCALE, height * _SCALE), "white")
    pen = ImageDraw.Draw(image)
    unit = "seconds" if measure == "wall" else "CPU-seconds"
    _text(pen, _MARGIN, _MARGIN, f"Share of the stages; {unit} a frame ({results['machine']['device']})")
    for number, (run, bar) in enumerate(zip(runs, shares, strict=True)):
        y = 2 * _MARGIN + number * _LINE
        _text(pen, _MARGIN, y + _LINE / 2, f"{run['name']}, {run['size'][0]}x{run['size'][1]}")
        parts = {name: bar.get(name, 0.0) for name in large} | {REST: bar.get(REST, 0.0)}
        x = float(_LABEL)
        for name, share in {**parts, _OTHERS: 1.0 - sum(parts.values())}.items():
            _box(pen, (x, y + 5, x + _BAR * share, y + _LINE - 5), colors[name])
            x += _BAR * share
        _text(pen, _LABEL + _BAR + 10, y + _LINE / 2, f"{run['accounted'][measure]:.3f} s")
    for number, (name, color) in enumerate(colors.items()):
        line, column = divmod(number, _COLUMNS)
        x, y = _MARGIN + column * 200, 3 * _MARGIN + (len(runs) + line) * _LINE
        _box(pen, (x, y - 7, x + 14, y + 7), color)
        _text(pen, x + 22, y, name)
    with atomic_path(path) as temporary:
        small = (image.width // _SCALE, image.height // _SCALE)
        image.resize(small, Image.Resampling.BOX).save(temporary, format="PNG")


def _shares(run: Row, measure: str) -> dict[str, float]:
    return {row["stage"]: row[f"{measure}_share"] for row in run["stages"]}


def _box(pen: ImageDraw.ImageDraw, edges: tuple[float, float, float, float], color: Color) -> None:
    pen.rectangle([edge * _SCALE for edge in edges], fill=color)


def _ways(runs_in: Mapping[str, Mapping[str, float]]) -> str:
    """Formats with their shares of the work, the most used layout and batch."""
    formats = ", ".join(f"{name} {share:.0%}" for name, share in runs_in["dtypes"].items() if share >= 0.005)
    layout, batch = (
        next((name for name in runs_in[key] if name != "-"), "-") for key in ("layouts", "batches")
    )
    return f"{formats}; {layout}; batch {batch}"


def _memory(peaks: Mapping[str, float]) -> str:
    return ", ".join(f"{key.removesuffix('_gib')} {value:.2f} GiB" for key, value in peaks.items())


def _text(pen: ImageDraw.ImageDraw, x: float, y: float, text: str) -> None:
    font = ImageFont.load_default(_FONT * _SCALE)
    pen.text((x * _SCALE, y * _SCALE), text, fill=_INK, font=font, anchor="lm")
