from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_samples import write_video

from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.evaluation import config as config_module
from videoretalking.evaluation.config import EvaluationConfig, build_measures
from videoretalking.evaluation.tables import summarize
from videoretalking.evaluation.video import VideoFaces
from videoretalking.metrics.base import Chunk, Clip, Metric
from videoretalking.metrics.lse import ExpertScore, SyncNetScore
from videoretalking.models.catalog import build_network, save_network
from videoretalking.models.lipsync_expert import LipSyncExpertConfig
from videoretalking.models.syncnet import SyncNetConfig

ROOT = Path(__file__).resolve().parents[2]
NETWORKS: dict[str, Any] = {
    "syncnet": SyncNetConfig((4, 4, 4, 4, 4, 4), (4, 4, 4, 4, 4, 4), embedding_size=6),
    "lipsync_expert": LipSyncExpertConfig(
        audio_widths=(2, 2, 2, 2, 4),
        audio_residual=(0, 0, 0, 0),
        face_widths=(2, 2, 2, 2, 4),
        face_residual=(0, 0, 0, 0, 0),
    ),
    "wav2lip": None,
}


@pytest.fixture(autouse=True)
def _only_these_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Detector:
        name = "none"

    folders = (tmp_path / "official", tmp_path / "demo")
    monkeypatch.setattr("videoretalking.core.locations.checkpoint_folders", lambda: folders)
    monkeypatch.setattr("videoretalking.models.catalog.checkpoint_folders", lambda: folders)
    monkeypatch.setattr(config_module, "choose_detector", lambda *_: Detector())


def _save(folder: Path, name: str) -> Path:
    path = folder / f"{name}.safetensors"
    save_network(path, build_network(name, NETWORKS[name]).eval(), license="random, for tests")
    return path


def _config(*overrides: str) -> EvaluationConfig:
    return load_config(EvaluationConfig, None, ["identity=none", "lpips=none", "device=cpu", *overrides])


def test_file_holds_the_defaults() -> None:
    assert load_config(EvaluationConfig, ROOT / "configs" / "evaluation.yaml") == EvaluationConfig()


@pytest.mark.parametrize(("name", "kind"), [("syncnet", SyncNetScore), ("lipsync_expert", ExpertScore)])
def test_sync_network_is_known_by_its_file(tmp_path: Path, name: str, kind: type) -> None:
    path = _save(tmp_path, name)
    measures = build_measures(_config(f"sync.weights={path}", "fid.features=none"))
    assert any(isinstance(metric, kind) for metric in measures.scorer.metrics)
    assert measures.settings["networks"] == {name: file_hash(path)}
    assert ("lse" in measures.notes) == (name == "lipsync_expert")


def test_networks_that_score_no_sync_are_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, "wav2lip")
    with pytest.raises(UserError, match="which scores no sync"):
        build_measures(_config(f"sync.weights={path}"))


def test_stand_ins_are_said_and_never_taken_where_the_real_thing_was_asked_for() -> None:
    measures = build_measures(_config("sync.network=none"))
    assert measures.fid is not None and "not comparable" in measures.notes["fid"]
    with pytest.raises(UserError, match="FID weights"):
        build_measures(_config("sync.network=none", "fid.features=inception"))
    with pytest.raises(UserError, match="FID weights"):
        build_measures(_config("sync.network=none", "fid.weights=nowhere.pth"))


class Brightness(Metric):
    """All that a further metric is: its class, a field of the settings and a row of the table."""

    def reset(self, clip: Clip) -> None:
        self._levels: list[float] = []

    def update(self, chunk: Chunk) -> None:
        self._levels += [float(frame.mean()) for frame in chunk.generated]

    def compute(self) -> dict[str, float]:
        return {"brightness": sum(self._levels) / len(self._levels)}


@dataclass(frozen=True)
class WithBrightness(EvaluationConfig):
    brightness: bool = False


def test_a_metric_is_a_row_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"brightness": lambda build: Brightness() if build.config.brightness else None}
    monkeypatch.setattr(config_module, "METRICS", {**config_module.METRICS, **row})
    settings = tmp_path / "evaluation.yaml"
    settings.write_text("brightness: true\nsync: {network: none}\nidentity: none\nlpips: none\n")
    frames = [np.full((64, 64, 3), level, np.uint8) for level in (40, 60, 80)]
    video = write_video(tmp_path / "video.mkv", frames)

    measures = build_measures(load_config(WithBrightness, settings))
    monkeypatch.setattr(
        measures.scorer,
        "find_faces",
        lambda _: VideoFaces(np.arange(3) / 25, np.zeros(3, np.int64), [None] * 3, [np.zeros((0, 4))] * 3),
    )
    values = measures.scorer(video, video, None)
    assert values["brightness"] == pytest.approx(60.0, abs=1.0) and values["psnr"] == 100.0
    assert measures.settings["brightness"] is True  # part of what a run must repeat
    assert summarize([values])["brightness"] == values["brightness"]

    off = build_measures(load_config(WithBrightness, settings, ["brightness=false"]))
    assert not any(isinstance(metric, Brightness) for metric in off.scorer.metrics)
    (alone,) = build_measures(load_config(WithBrightness, settings), only=["brightness"]).scorer.metrics
    assert isinstance(alone, Brightness)


def test_device_does_not_change_what_is_measured() -> None:
    quick = build_measures(_config("sync.network=none", "chunk_size=3"))
    usual = build_measures(_config("sync.network=none"))
    strided = build_measures(_config("sync.network=none", "cpbd_stride=2"))
    assert quick.settings == usual.settings != strided.settings


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fid.stride=0", r"fid\.stride must be at least 1, is 0"),
        ("cpbd_stride=-1", "cpbd_stride of EvaluationConfig must be at least 0, is -1"),
        ("extra_stride=0", "extra_stride of EvaluationConfig must be at least 1"),
        ("chunk_size=0", "chunk_size of EvaluationConfig must be at least 1"),
        ("sync.tracking.min_iou=1", r"sync\.tracking\.min_iou must be at least 0 and below 1, is 1"),
        ("sync.tracking.min_detections=-1", r"sync\.tracking\.min_detections must be at least 0, is -1"),
        ("sync.tracking.crop_scale=.inf", r"sync\.tracking\.crop_scale must be finite, at least 0"),
        ("sync.tracking.smoothing=12", r"sync\.tracking.*smoothing.* must be odd, is 12"),
    ],
)
def test_numbers_out_of_range_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^overrides: {message}"):
        load_config(EvaluationConfig, ROOT / "configs" / "evaluation.yaml", [override])
