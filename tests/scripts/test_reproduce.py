from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_media import write_clip
from tiny_weights import SIZES, make_tiny_weights

from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.core.locations import checkpoint_folder
from videoretalking.evaluation import reproduction
from videoretalking.evaluation.methods import MissingWeightsError
from videoretalking.evaluation.paper import TABLE_1, TABLE_3, TABLE_4
from videoretalking.evaluation.plan import Plan
from videoretalking.evaluation.plots import OURS, PAPER
from videoretalking.evaluation.reproduction import PRESETS
from videoretalking.media.images import load_image
from videoretalking.models.catalog import build_network, save_network
from videoretalking.scripts.reproduce import main

# A Wav2Lip generator as small as the networks of make_tiny_weights.
WAV2LIP = {
    "audio_widths": (2, 2, 2, 2, 8),
    "encoder_widths": (2, 2, 2, 2, 4, 4),
    "encoder_residual": (0,) * 6,
    "decoder_widths": (4, 4, 4, 2, 2, 2, 2),
    "decoder_residual": (0,) * 7,
    "head_width": 2,
}


class _Evaluation:
    """Stands for a finished evaluation; FID tells which job it was."""

    def __init__(self, value: float) -> None:
        self.value = value

        self.runtime: dict[str, Any] = {"method": {"device": "cpu", "dtype": "float32"}, "measures": {}}
        self.settings = {"method": {"dtype": "float32", "weights": {"lnet": "abc"}}, "measures": {}}

    def summarize(self, pairs: list[Any]) -> dict[str, Any]:
        values = {"fid": self.value, "cpbd": 0.25, "lse_d": 7.0 + len(pairs), "lse_c": 5.0, "seam": 1.0}
        notes = {"fid": "a stand-in", "seam": "unprinted"}
        names = [pair.name for pair in pairs]
        return {
            "videos": len(pairs),
            "failed": [],
            "runtimes": [self.runtime],
            "notes": notes,
            "values": values,
            "intervals": {"lse_c": [4.5, 5.5]},
            "interval_method": "drawn again",
            "worst": {"lse_d": names[::-1]},
        }

    def videos(self, pairs: list[Any]) -> dict[str, dict[str, float]]:
        return {pair.name: {"lse_d": 7.0 + pair.index, "lse_c": 5.0, "cpbd": 0.25} for pair in pairs}

    def is_finished(self, pair: Any) -> bool:
        return bool(pair.index == 0)

    def timings(self, pairs: list[Any]) -> list[tuple[float, float]]:
        return [(10.0, 1000.0), (50.0, 100.0)]  # the first pair pays for loading


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Jobs are recorded instead of run; the GAN baseline has no weights."""
    seen: list[Plan] = []

    def run(plan: Plan, pairs: list[Any]) -> _Evaluation:
        if plan.method == "wav2lip-gan":
            raise MissingWeightsError("no weights")
        seen.append(plan)
        return _Evaluation(float(len(seen)))

    monkeypatch.setattr(reproduction, "run_locally", run)
    return seen


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for speaker in range(2):
        for clip in range(2):
            path = tmp_path / "lrs2" / str(speaker) / f"{clip}.mp4"
            write_clip(path, levels=range(20, 220, 4), frequency=300 + 100 * clip)
    for video in range(2):
        write_clip(tmp_path / "hdtf" / f"RD_Radio{video}_000.mp4", levels=range(20, 228, 4))
    return tmp_path


def _run(data: Path, table: str, *arguments: str) -> str:
    out = data / "out"
    common = ["--preset", "mini", "--out", str(out), "--hdtf", str(data / "hdtf"), "--set", "cpbd_stride=3"]
    assert main([table, *common, *arguments]) == 0
    latex = (out / f"{table}.tex").read_text()
    assert latex.count(r"\\") >= 5 and r"\toprule" in latex
    return (out / f"{table}.md").read_text()


def test_table1_has_every_method_beside_the_paper(data: Path, plans: list[Plan]) -> None:
    given = ("table1", "--lrs2", str(data / "lrs2"), "--results", f"PC-AVS:LRS2={data / 'pcavs'}")
    with pytest.raises(UserError, match=r"^--results PC-AVS:LRS2=.*pcavs: there is no such folder"):
        _run(data, *given)
    assert not plans  # said before anything runs
    (data / "pcavs").mkdir()
    text = _run(data, *given)
    lines = text.split("**Worst")[0].splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert list(rows)[2:] == list(TABLE_1)
    assert "| 5.193 |" in rows["Ours"] and "| 9.359 |" in rows["Ours"]
    assert rows["LipGAN"].split("|")[2].strip() == "n/a"
    assert rows["PC-AVS"].split("|")[2].strip() not in ("", "-")
    assert "a stand-in" in text and "unprinted" not in text
    assert text.count("- networks on cpu in float32\n") == 1
    assert text.count("Wav2Lip: not available (no weights)") == 1
    assert "2 pairs of LRS2 of 2 s, 2 pairs of HDTF of 2 s; seed 0" in text
    assert [plan.method for plan in plans] == ["wav2lip", "wav2lip", str(data / "pcavs"), "ours", "ours"]
    assert all(plan.config.cpbd_stride == 3 for plan in plans)
    assert plans[-1].config.sync.tracking.min_detections == 25
    assert len({plan.folder for plan in plans}) == 5


def _save_lnet(path: Path, attention_layers: int) -> str:
    network = build_network("lnet", SIZES["lnet"] | {"attention_layers": attention_layers}).eval()
    save_network(path, network, license="random, for tests")
    return str(path)


def test_table3_switches_networks_off_one_by_one(data: Path, plans: list[Plan]) -> None:
    ablated = _save_lnet(data / "ablated.safetensors", attention_layers=0)
    text = _run(data, "table3", "--lnet-without-attention", ablated)
    assert all(f"| {row} |" in text for row in TABLE_3)
    flags = [
        (plan.settings.get("render.neutralize", True), plan.settings.get("render.enhance", True))
        for plan in plans
    ]
    assert flags == [(False, False), (False, False), (False, True), (True, True)]
    assert plans[0].settings["weights.lnet"] == ablated
    assert plans[3].folder.name == "ours"  # shared with table 1


def test_table3_takes_the_ablated_network_only(
    data: Path, plans: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videoretalking.evaluation.methods.checkpoint_folders", tuple)
    whole = _save_lnet(data / "lnet.safetensors", attention_layers=1)
    with pytest.raises(UserError, match="no L-Net without cross-attention"):
        _run(data, "table3", "--lnet-without-attention", whole)
    text = _run(data, "table3", "--job", f"weights.family={data}")
    assert "| L-Net w/o cross-attention | n/a | 5.951 | n/a |" in text
    assert "cross-attention: not available (needs weights lnet_no_attention.safetensors" in text
    ablated = _save_lnet(data / "lnet_no_attention.safetensors", attention_layers=0)
    _run(data, "table3", "--job", f"weights.family={data}")
    assert plans[3].settings["weights.lnet"] == ablated


def test_table4_interpolates_the_template(data: Path, plans: list[Plan]) -> None:
    text = _run(data, "table4", "--job", "runtime.dtype=float32")
    assert [plan.settings["render.expression_blend"] for plan in plans] == list(TABLE_4)
    assert {plan.settings["render.expression"] for plan in plans} == {"smile"}
    assert {plan.settings["runtime.dtype"] for plan in plans} == {"float32"}
    assert "| 0.4 | 9.000 | 9.092 | 5.000 [4.500, 5.500] | 4.768 |" in text
    assert "- drawn again\n" in text and "![Table 4: expression template" in text


def test_a_table_leaves_a_record_of_how_it_was_made(data: Path, plans: list[Plan]) -> None:
    manifest = data / "manifest.csv"
    manifest.write_text("clip,split,identity,num_frames,release_training\nx/000,train,y,50,yes\n")
    _run(data, "table3", "--train-manifest", str(manifest))
    record = json.loads((data / "out" / "table3.json").read_text())
    assert record["number_formats"] == ["float32"] and record["seed"] == 0
    assert record["train_manifest"] == {"path": str(manifest), "sha256": file_hash(manifest)}
    assert "torch" in record["environment"] and "commit" in record["code"]
    ours = record["rows"][-1]
    assert ours["name"] == "L-Net + E-Net + D-Net" and ours["paper"]["lse_d"] == 9.359
    assert ours["method"]["weights"] == {"lnet": "abc"} and ours["intervals"] == {"lse_c": [4.5, 5.5]}
    assert ours["runtimes"][0]["method"] == {"device": "cpu", "dtype": "float32"}
    assert all(plan.settings["runtime.dtype"] == "float32" for plan in plans)


def test_the_worst_videos_are_listed(data: Path, plans: list[Plan]) -> None:
    text = _run(data, "table1")
    assert "**Worst videos, the worst first**" in text
    assert "| Ours, HDTF | 00001 (8.000), 00000 (7.000) |" in text
    with (data / "out" / "table1_worst.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    worst = [row for row in rows if row["row"] == "Ours"]
    assert [(row["rank"], row["name"], row["value"]) for row in worst] == [
        ("1", "00001", "8.0"),
        ("2", "00000", "7.0"),
    ]
    assert all(Path(row["video"]).is_file() and Path(row["audio"]).is_file() for row in worst)


@pytest.mark.parametrize(
    ("table", "picture"), [("table1", "table1_hdtf"), ("table3", "table3"), ("table4", "table4")]
)
def test_tables_are_drawn(data: Path, plans: list[Plan], table: str, picture: str) -> None:
    text = _run(data, table)
    assert f"({picture}.png)" in text
    image = load_image(data / "out" / f"{picture}.png")
    assert image.shape[0] > 250 and image.shape[1] > 800
    colors = {tuple(color) for color in image.reshape(-1, 3)}
    assert OURS in colors and PAPER in colors  # both are drawn, and not only in the legend:
    half = {tuple(color) for color in image[: image.shape[0] * 3 // 4].reshape(-1, 3)}
    assert OURS in half and PAPER in half


def test_the_paper_is_not_drawn_beside_the_scores_of_another_network(
    data: Path, plans: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    summarize = _Evaluation.summarize
    monkeypatch.setattr(
        _Evaluation,
        "summarize",
        lambda self, pairs: {**summarize(self, pairs), "notes": {"lse": "scored by the expert"}},
    )
    _run(data, "table4")
    colors = {tuple(color) for color in load_image(data / "out" / "table4.png").reshape(-1, 3)}
    assert OURS in colors and PAPER not in colors


def test_a_plan_says_the_hours_and_stops(
    data: Path, plans: list[Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    out = data / "out"
    arguments = ["table4", "--preset", "mini", "--out", str(out), "--hdtf", str(data / "hdtf"), "--plan"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("hours of one process here (networks on cpu in float32):")
    # one pair of 50 frames is left in each of six rows; 100 s for 50 frames, the first pair does not count
    assert [line.split()[-3:] for line in lines[2:8]] == [["1", "50", "0.03"]] * 6
    assert lines[8].split()[:3] == ["total", "0.17", "hours,"]
    assert not (out / "table4.md").exists() and len(plans) == 6


def test_tables_on_what_was_trained_on_are_refused(data: Path, plans: list[Plan]) -> None:
    manifest = data / "manifest.csv"
    manifest.write_text("clip,split,identity,num_frames,release_training\nRD_Radio0_000/000,train,y,50,yes\n")
    with pytest.raises(UserError, match=r"manifest\.csv: .*share RD_Radio0_000"):
        _run(data, "table4", "--train-manifest", str(manifest))
    assert plans == []


def test_sizes_of_the_paper() -> None:
    """Section 4.2: 14k pairs of LRS2, 100 of twenty seconds of HDTF; appendix A: ten videos, six ratios."""
    paper = PRESETS["paper"]
    assert (paper.lrs2_pairs, paper.lrs2_seconds) == (14_000, None)
    assert (paper.hdtf_pairs, paper.hdtf_seconds, paper.table4_pairs) == (100, 20.0, 10)
    assert list(TABLE_4) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert list(TABLE_1) == ["LipGAN", "Wav2Lip w/o GAN", "Wav2Lip", "PC-AVS", "Ours"]


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --lrs2"):
        main(["table1", "--out", str(tmp_path)])
    with pytest.raises(UserError, match="table4 needs --hdtf"):
        main(["table4", "--out", str(tmp_path)])


def test_results_of_other_settings_are_an_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan: Plan, pairs: list[Any]) -> None:
        raise UserError("the folder holds results of other settings")

    monkeypatch.setattr(reproduction, "run_locally", run)
    with pytest.raises(UserError, match="other settings"):
        _run(data, "table4")


_ROWS = {
    "table1": ("Wav2Lip w/o GAN", "Ours"),
    "table3": tuple(TABLE_3),
    "table4": tuple(f"{ratio:g}" for ratio in TABLE_4),
}


@pytest.mark.parametrize("table", sorted(_ROWS))
def test_mini_tables_for_real(
    table: str, media_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row that has weights is dubbed and scored: half a second of one pair."""
    monkeypatch.setitem(PRESETS, "mini", replace(PRESETS["mini"], hdtf_pairs=1, hdtf_seconds=0.48))
    weights = make_tiny_weights(tmp_path / "weights")
    save_network(
        weights / "wav2lip.safetensors", build_network("wav2lip", WAV2LIP).eval(), license="random, for tests"
    )
    _save_lnet(weights / "lnet_no_attention.safetensors", attention_layers=0)
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("edtalk_1.mp4", "lipnet_grid_2.mp4"):
        (videos / name).symlink_to(media_dir / "clips" / name)
    arguments = [table, "--preset", "mini", "--hdtf", str(videos), "--out", str(tmp_path / "out")]
    # the bundled D-Net: random ones paint pictures in which the detector may find no face to score
    dnet = checkpoint_folder("demo") / "dnet.safetensors"
    arguments += ["--job", f"weights.family={weights}", f"weights.dnet={dnet}", "analysis.backend=bundled"]
    arguments += ["--set", "face_backend=bundled", "fid.features=stand-in", "lpips=none", "identity=none"]
    arguments += [f"sync.weights={weights / 'lipsync_expert.safetensors'}"]
    assert main(arguments) == 0
    text = (tmp_path / "out" / f"{table}.md").read_text()
    lines = text.split("**Worst")[0].splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if "|" in line}
    assert "1 pairs of HDTF of 0.48 s" in text and "in place of SyncNet" in text
    for row in _ROWS[table]:
        assert all(float(cell) >= 0.0 for cell in rows[row]), row


@pytest.mark.parametrize("dataset", ["LRS2", "HDTF"])
def test_missing_folders_are_named(tmp_path: Path, dataset: str) -> None:
    missing = tmp_path / "none"
    with pytest.raises(UserError, match=rf"folder of {dataset}'s videos {missing} does not exist"):
        main(["table1", f"--{dataset.lower()}", str(missing), "--out", str(tmp_path / "out")])
