from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sample_media import write_clip

from core.errors import UserError
from metrics.paper import TABLE_1, TABLE_3, TABLE_4
from scripts import reproduce
from scripts.evaluate import Plan
from scripts.reproduce import main


class _Evaluation:
    """Stands for a finished evaluation; FID tells which job it was."""

    def __init__(self, value: float) -> None:
        self.value = value

    def summarize(self, pairs: list[Any]) -> dict[str, Any]:
        values = {"fid": self.value, "cpbd": 0.25, "lse_d": 7.0 + len(pairs), "lse_c": 5.0, "seam": 1.0}
        return {"failed": [], "notes": {"fid": "a stand-in", "seam": "unprinted"}, "values": values}


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Jobs are recorded instead of run; the GAN baseline has no weights."""
    seen: list[Plan] = []

    def run(plan: Plan, pairs: list[Any]) -> _Evaluation:
        if plan.method == "wav2lip-gan":
            raise UserError("no weights")
        seen.append(plan)
        return _Evaluation(float(len(seen)))

    monkeypatch.setattr(reproduce, "run_locally", run)
    return seen


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for speaker in range(2):
        for clip in range(2):
            path = tmp_path / "lrs2" / str(speaker) / f"{clip}.mp4"
            write_clip(path, levels=range(20, 220, 4), frequency=300 + 100 * clip)
    for video in range(2):
        write_clip(tmp_path / "hdtf" / f"{video}.mp4", levels=range(20, 228, 4))
    return tmp_path


def _run(data: Path, table: str, *arguments: str) -> str:
    out = data / "out"
    common = ["--preset", "mini", "--out", str(out), "--hdtf", str(data / "hdtf"), "--set", "cpbd_stride=3"]
    main([table, *common, *arguments])
    latex = (out / f"{table}.tex").read_text()
    assert latex.count(r"\\") >= 5 and r"\toprule" in latex
    return (out / f"{table}.md").read_text()


def test_table1_has_every_method_beside_the_paper(data: Path, plans: list[Plan]) -> None:
    (data / "pcavs").mkdir()
    text = _run(data, "table1", "--lrs2", str(data / "lrs2"), "--results", f"PC-AVS:LRS2={data / 'pcavs'}")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert list(rows)[2:] == list(TABLE_1)
    assert "| 5.193 |" in rows["Ours"] and "| 9.359 |" in rows["Ours"]
    assert rows["LipGAN"].split("|")[2].strip() == "-"
    assert rows["PC-AVS"].split("|")[2].strip() not in ("", "-")
    assert "a stand-in" in text and "unprinted" not in text
    assert "Wav2Lip on HDTF was not run: no weights" in text
    assert "2 pairs of LRS2, 2 pairs of HDTF; seed 0" in text
    assert [plan.method for plan in plans] == ["wav2lip", "wav2lip", str(data / "pcavs"), "ours", "ours"]
    assert all(plan.config.cpbd_stride == 3 for plan in plans)
    assert plans[-1].config.sync.tracking.min_detections == 25
    assert len({plan.folder for plan in plans}) == 5


def test_table3_switches_networks_off_one_by_one(data: Path, plans: list[Plan]) -> None:
    text = _run(data, "table3", "--lnet-without-attention", "ablated.safetensors")
    assert all(f"| {row} |" in text for row in TABLE_3)
    flags = [
        (plan.settings.get("render.neutralize", True), plan.settings.get("render.enhance", True))
        for plan in plans
    ]
    assert flags == [(False, False), (False, False), (False, True), (True, True)]
    assert plans[0].settings["weights.lnet"] == "ablated.safetensors"
    assert plans[3].folder.name == "ours"  # shared with table 1
    assert "w/o cross-attention: train one" in _run(data, "table3")


def test_table4_interpolates_the_template(data: Path, plans: list[Plan]) -> None:
    text = _run(data, "table4", "--job", "runtime.dtype=float32")
    assert [plan.settings["render.expression_blend"] for plan in plans] == list(TABLE_4)
    assert {plan.settings["render.expression"] for plan in plans} == {"smile"}
    assert {plan.settings["runtime.dtype"] for plan in plans} == {"float32"}
    assert "| 0.4 | 9.000 | 9.092 | 5.000 | 4.768 |" in text


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --lrs2"):
        main(["table1", "--out", str(tmp_path)])
    with pytest.raises(UserError, match="table4 needs --hdtf"):
        main(["table4", "--out", str(tmp_path)])
