"""The figures as a table, with what is demanded of them."""

from __future__ import annotations

from dataclasses import dataclass

from videoretalking.evaluation.tables import ABSENT, Table
from videoretalking.scripts.demo_figures.sync import Figures

PAINTERS = ("lnet", "wav2lip")


@dataclass(frozen=True)
class FigureRow:
    """A line of the printed table.

    Attributes:
        network: name in the catalog.
        key: name in the results.
        text: what it is.
        unit: ``%`` shows a share in percent; else printed behind the number.
        target: what the project demands, as text.
    """

    network: str
    key: str
    text: str
    unit: str = ""
    target: str = ""


_PAINTER_ROWS = (
    (
        "offset_within_2",
        "another's speech: 2 s windows whose best offset (of ±15) lies within ±2",
        "%",
        "≥ 70 %",
    ),
    ("silent_over_spoken", "variation of the mouth's opening, silence over speech", "%", "< 33 %"),
    ("opening_spoken", "standard deviation of the opening under speech, in eye distances", "", ""),
    ("opening_real", "the same in the clips themselves", "", ""),
    (
        "opening_still",
        "the same where one closed mouth stands below every upper half: the judge's own error",
        "",
        "",
    ),
    ("psnr_own_speech", "PSNR of the lower half, own speech", "dB", ""),
)
# Key, text, target; each under own and under foreign speech.
_DUB_ROWS = (
    ("sharpness", "sharpness of the mouth over the source's", "≥ 0.8"),
    ("lips", "distance of the lips' color (a, b) from the source's", "≤ 2.5"),
    ("cheeks", "distance of the cheeks' color (a, b) from the source's", "≤ 1.0"),
    ("seam", "slope across the border of the painted crop over the source's", "≤ 1.2"),
    ("opening_spread", "standard deviation of the opening over the source's", "≥ 0.75"),
)
ROWS = (
    FigureRow(
        "landmarks",
        "nme",
        "error over the distance of the outer eye corners (NME), crop from the label",
        "%",
        "≤ 5 %",
    ),
    FigureRow(
        "landmarks", "nme_tracked", "the same in videos, crop from the estimate in the frame before", "%"
    ),
    FigureRow(
        "lipsync_expert",
        "accuracy_5_frames",
        "synced beats shifted by ≥ 5 frames, single windows (5 frames)",
        "%",
        "≥ 75 %",
    ),
    FigureRow("lipsync_expert", "accuracy_1_s", "the same, mean distance over 1 s", "%"),
    FigureRow("lipsync_expert", "accuracy_2_s", "the same, mean distance over 2 s", "%"),
    FigureRow(
        "lipsync_expert",
        "offset_within_2",
        "real clips: 2 s windows whose best offset (of ±15) lies within ±2",
        "%",
    ),
    *(FigureRow(name, *row) for name in PAINTERS for row in _PAINTER_ROWS),
    *(
        FigureRow(name, *row)
        for name in ("lipsync_expert", "lnet")
        for row in (
            (
                "features_r",
                "opening from sound, ridge on the audio encoder's features: correlation on strangers",
                "",
                "≥ 0.45",
            ),
            ("features_r_in_clips", "the same within clips"),
            ("mel_r", "the same on the spectrogram itself"),
        )
    ),
    FigureRow("dnet", "psnr", "PSNR of the rendered frame, at the last validation of the training", "dB"),
    FigureRow(
        "dnet",
        "neutral_opening_r",
        "neutral template: correlation of the opening with the source's own",
        "",
        "≤ 0.4",
    ),
    FigureRow("dnet", "neutral_opening_spread", "its standard deviation over the source's", "", "≤ 0.5"),
    FigureRow(
        "dnet",
        "smile_corners",
        "smile against neutral: corners of the mouth move, in eye distances",
        "%",
        "≥ 3 %",
    ),
    FigureRow("enet", "psnr", "PSNR of the enhanced frame, at the last validation of the training", "dB"),
    FigureRow(
        "enet", "reference_levels", "change by another person's picture as reference", "levels", "≥ 2 levels"
    ),
    FigureRow(
        "enet", "own_nearer", "frames that are nearer to the truth under the own picture", "%", "≥ 90 %"
    ),
    *(
        FigureRow("dubs", f"{key}_{speech}", f"{text}, {speech} speech", "", target)
        for key, text, target in _DUB_ROWS
        for speech in ("own", "foreign")
    ),
    FigureRow("dubs", "seam_worst", "that slope at the worst edge of the worst clip", "", "≤ 1.2"),
    FigureRow(
        "dubs", "seam_turned", "the same where heads are turned (yaw > 20°) or tilted (10°)", "", "≤ 1.2"
    ),
    FigureRow("dubs", "opening_r", "correlation of the opening with the real one, own speech"),
    FigureRow(
        "dubs",
        "leak_r",
        "correlation of the opening with the source's own, foreign speech",
        "",
        "≤ 0.15",
    ),
    FigureRow("dubs", "silence", "variation of the opening, silence over speech", "%", "≤ 20 %"),
)


def to_table(figures: Figures) -> Table:
    """The figures with what is demanded of them."""
    data = figures["data"]
    rows = []
    for row in ROWS:
        value = figures.get(row.network, {}).get(row.key)
        rows.append([row.network, row.text, _cell(value, row.unit), row.target or ABSENT])
    notes = [
        f"{data['clips']} clips and pictures of {data['people']} people that no training saw; "
        f"{data['talking_clips']} clips of {data['talking_people']} people with sound",
        *(f"{name}: not measured, no weights" for name in figures["missing"]),
        *figures.get("notes", []),
    ]
    return Table(
        "Bundled weights on people that no training saw",
        ["network", "figure", "value", "demanded"],
        rows,
        notes,
    )


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return ABSENT
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.3g} {unit}".strip()
