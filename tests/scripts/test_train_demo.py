from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest
import torch
import yaml

from videoretalking.core.checkpoint import read_checkpoint
from videoretalking.core.config import to_dict
from videoretalking.core.errors import UserError
from videoretalking.models.catalog import build_network, load_network, save_network
from videoretalking.models.landmarks import LandmarkNet, LandmarkNetConfig
from videoretalking.scripts import train_demo
from videoretalking.train.catalog import read_training_config
from videoretalking.train.small_data.lnet import LNetSmallDataConfig

ROOT = Path(__file__).resolve().parent.parent.parent


def test_missing_labels_are_named_or_made(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "file,identity,release_training\nclips/a.mp4,anna,yes\nhostile/b.mp4,ben,yes\naudio/c.wav,carl,yes\n"
    )
    labels = tmp_path / "labels"
    with pytest.raises(UserError, match=r"1 files have no labels .*first: clips/a.mp4.*--labeler"):
        train_demo.make_labels(tmp_path, labels, None, 1)
    with pytest.raises(UserError, match="labeling did not work"):
        train_demo.make_labels(tmp_path, labels, str(tmp_path / "no-python"), 1)
    idle = tmp_path / "idle"
    idle.write_text("#!/bin/sh\n")
    idle.chmod(0o755)
    with pytest.raises(UserError, match=r"clips/a.mp4 could not be labeled"):
        train_demo.make_labels(tmp_path, labels, str(idle), 1)
    working = tmp_path / "working"
    working.write_text(
        f"#!/bin/sh\nprintf '%s ' \"$@\" > {tmp_path}/call\nmkdir -p {labels}/clips && touch {labels}/clips/a.npz\n"
    )
    working.chmod(0o755)
    train_demo.make_labels(tmp_path, labels, str(working), 3)
    call = (tmp_path / "call").read_text()
    assert "scripts.preprocess.label_landmarks" in call and "--processes 3 --files clips/a.mp4" in call
    train_demo.make_labels(tmp_path, labels, None, 1)


def test_networks_wait_for_what_they_need() -> None:
    started: list[str] = []
    finished: set[str] = set()
    two_at_once = Barrier(2, timeout=30)

    def train_one(name: str) -> None:
        assert finished.issuperset(train_demo.NEEDS[name])
        started.append(name)
        if len(started) <= 2:
            two_at_once.wait()
        finished.add(name)

    with ThreadPoolExecutor(2) as executor:
        train_demo.train_in_order(train_demo.NETWORKS, executor, train_one)
    assert sorted(started) == sorted(train_demo.NETWORKS)
    assert set(started[:2]) == {"landmarks", "lipsync_expert"}


def test_no_network_is_trained_after_a_failure() -> None:
    started = []

    def train_one(name: str) -> None:
        started.append(name)
        raise UserError("the disk is full")

    with ThreadPoolExecutor(1) as executor, pytest.raises(UserError, match="disk"):
        train_demo.train_in_order(["landmarks", "lipsync_expert", "dnet"], executor, train_one)
    assert started == ["landmarks"]


def test_a_failure_is_told_while_other_networks_still_train(caplog: pytest.LogCaptureFixture) -> None:
    begun, told = Event(), Event()
    caplog.handler.addFilter(lambda record: told.set() or True)

    def train_one(name: str) -> None:
        if name == "landmarks":
            assert begun.wait(timeout=60)
            raise UserError("the disk is full")
        begun.set()
        assert told.wait(timeout=60)

    with ThreadPoolExecutor(2) as executor, pytest.raises(UserError, match="disk"):
        train_demo.train_in_order(["landmarks", "lipsync_expert"], executor, train_one)
    assert "landmarks failed (the disk is full); lipsync_expert goes on" in caplog.text


@pytest.mark.parametrize("name", train_demo.NETWORKS)
def test_needs_are_what_the_config_reads(name: str) -> None:
    config = to_dict(read_training_config(ROOT / f"configs/demo/{name}.yaml", []))
    values = [line.strip() for line in yaml.safe_dump(config).splitlines()]
    read = {Path(line.split()[-1]).stem for line in values if "checkpoints/demo/" in line}
    assert read == set(train_demo.NEEDS[name])


def test_the_bundled_lnet_is_what_its_config_trains() -> None:
    config = read_training_config(ROOT / "configs/demo/lnet.yaml", [])
    assert isinstance(config, LNetSmallDataConfig)
    bundled = load_network(ROOT / "checkpoints/demo/lnet.safetensors", expected="lnet", fold=False)
    network = build_network("lnet", config.model)
    network.load_state_dict(bundled.state_dict())
    assert config.model == bundled.config
    ablation = read_training_config(ROOT / "configs/demo/lnet_no_attention.yaml", [])
    assert isinstance(ablation, LNetSmallDataConfig)
    assert dataclasses.replace(ablation.model, attention_layers=1) == config.model


def test_export_halves_the_size_and_keeps_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_demo, "CHECKPOINTS", tmp_path / "bundled")
    network = LandmarkNet(LandmarkNetConfig(width_multiplier=0.25)).eval()
    trained = tmp_path / "landmarks.safetensors"
    save_network(trained, network, "none", {"step": 7})
    train_demo.export("landmarks", trained)
    bundled = tmp_path / "bundled/landmarks.safetensors"
    tensors, metadata = read_checkpoint(bundled)
    assert metadata["extra"]["step"] == 7 and "MODEL_CARD" in metadata["license"]
    assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.float16}
    image = torch.rand(2, 3, 128, 128)
    assert (load_network(bundled)(image).points - network(image).points).abs().max() < 0.05
    before = bundled.stat().st_mtime_ns
    train_demo.export("landmarks", trained)
    assert bundled.stat().st_mtime_ns == before  # nothing new, nothing written


CONFIGS = sorted(path.stem for path in (ROOT / "configs/demo").glob("*.yaml") if path.stem != "common")


@pytest.mark.parametrize("name", CONFIGS)
def test_demo_configs_are_valid_and_publishable(name: str) -> None:
    config = read_training_config(ROOT / f"configs/demo/{name}.yaml", [])
    assert name in train_demo.NETWORKS and name.startswith(config.network)
    assert config.data.release_only, "only clips whose weights may be published may train"
    assert Path(config.loop.folder) == train_demo.RUNS / name
    assert Path(config.data.root) in {train_demo.DATA / "small", train_demo.DATA / "large"}
