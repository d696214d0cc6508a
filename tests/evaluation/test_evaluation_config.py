from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.evaluation import config as config_module
from videoretalking.evaluation.config import EvaluationConfig, build_measures
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


def test_device_does_not_change_what_is_measured() -> None:
    quick = build_measures(_config("sync.network=none", "chunk_size=3"))
    usual = build_measures(_config("sync.network=none"))
    strided = build_measures(_config("sync.network=none", "cpbd_stride=2"))
    assert quick.settings == usual.settings != strided.settings
