"""Every step with real worker processes, one of which is killed as the system kills when memory runs out."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from drawn_corpus import write_corpus
from tiny_weights import SIZES

from videoretalking.core.locations import HOME_VARIABLE
from videoretalking.models.catalog import build_network, save_network
from videoretalking.scripts.preprocess import (
    audio,
    clips,
    coefficients,
    offsets,
    restore,
    runner,
    sources,
    splits,
    tracks,
)
from videoretalking.scripts.preprocess.crew import Crew

NAMES = ("anna/one", "ben/two", "carl/three")
GPEN = {"widths": (1,) * 8, "style_size": 2, "num_mapping_layers": 1}
OFFSETS = offsets.OffsetConfig(min_confidence=-9.0)
HERE = Crew(processes=0)

# step -> what it left, as a pattern, and the name of the item whose worker is killed
LEFT: dict[ModuleType, tuple[str, str]] = {
    tracks: ("work/tracks/*/*.npz", "ben/two"),
    clips: ("work/clips/*/*.json", "ben/two"),
    audio: ("out/*/*/*/mel.npy", "ben/two"),
    coefficients: ("out/*/*/*/rows.npy", "ben/two/000"),
    offsets: ("work/offsets/*/*.json", "ben/two"),
    restore: ("out/*/*/*/restored_index.npy", "ben/two/000"),
}


def run(step: ModuleType, folder: Path, crew: Crew) -> runner.Outcome:
    """One step with the settings of these tests."""
    work, out = folder / "work", folder / "out"
    settings: dict[ModuleType, tuple[Any, ...]] = {
        tracks: (work, folder / "labels", "bundled"),
        clips: (work, out, clips.ClipConfig(min_face=16)),
        audio: (work, out),
        coefficients: (work, out, "fit"),
        offsets: (work, out, OFFSETS),
        restore: (work, out),
    }
    outcome: runner.Outcome = step.run(*settings[step], crew)
    return outcome


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small networks where the product looks for released ones."""
    folder = tmp_path_factory.mktemp("home")
    weights = folder / "checkpoints" / "official"
    weights.mkdir(parents=True)
    for name, sizes in (("gpen", GPEN), ("lipsync_expert", SIZES["lipsync_expert"])):
        save_network(weights / f"{name}.safetensors", build_network(name, sizes).eval(), license="for tests")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with the steps done that others need."""
    folder = tmp_path_factory.mktemp("prepared")
    write_corpus(folder / "videos", folder / "labels", NAMES, num_frames=26)
    sources.renew_sources(folder / "work", "folder", folder / "videos")
    for step in (tracks, clips, audio, coefficients):
        assert run(step, folder, HERE) == runner.Outcome(done=3, skipped=0, rejected=0, failed=0), step
    return folder


def _killing(
    build: Callable[[str], Callable[[Any], None]], victim: str, device: str
) -> Callable[[Any], None]:
    return partial(_kill_or_work, build(device), victim)


def _kill_or_work(work: Callable[[Any], None], victim: str, item: Any) -> None:
    if item.name == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    work(item)


@pytest.mark.parametrize("step", list(LEFT), ids=lambda step: step.__name__.rpartition(".")[2])
def test_a_killed_worker_costs_its_item_only(
    step: ModuleType, prepared: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    pattern, victim = LEFT[step]
    for path in list(tmp_path.glob(pattern)):
        path.unlink()
    shutil.rmtree(tmp_path / "work" / "rejects", ignore_errors=True)

    def killing(name: str, items: Any, build: Any, *rest: Any, **options: Any) -> runner.Outcome:
        return runner.run_step(name, items, partial(_killing, build, victim), *rest, **options)

    monkeypatch.setattr(step, "run_step", killing)
    outcome = run(step, tmp_path, Crew(processes=1, devices=("cpu",)))
    assert outcome.failed == outcome.skipped == 0 and outcome.done + outcome.rejected == 3
    rejects = runner.read_rejects(tmp_path / "work", step.__name__.rpartition(".")[2])
    assert [name for name, reason in rejects.items() if "worker process died" in reason] == [victim]
    assert any(f"{victim} rejected: the worker process died" in message for message in caplog.messages)
    left = [path.as_posix() for path in tmp_path.glob(pattern)]
    assert len(left) == outcome.done and not any(victim in path for path in left)
    assert outcome.done == 2 or step is offsets  # whose untrained expert may be unsure of all


def stored_frames(root: Path, clip: str) -> bytes:
    return (root / clip / "frames.bin").read_bytes()


def test_changed_new_gone_and_returned_sources(
    prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    videos, work, out = tmp_path / "videos", tmp_path / "work", tmp_path / "out"
    caplog.set_level("INFO")

    def again() -> list[int]:
        """How much each of the first three steps does, and the manifest."""
        sources.renew_sources(work, "folder", videos)
        done = [run(step, tmp_path, HERE).done for step in (tracks, clips, coefficients)]
        splits.run(work, out, splits.SplitConfig())
        return done

    def listed() -> list[str]:
        lines = (out / "manifest.csv").read_text().splitlines()[1:]
        return [line.split(",")[0] for line in lines]

    (work / sources.ORIGIN).unlink()  # the corpus was copied, with its times
    assert again() == [0, 0, 0] and listed() == ["anna/one/000", "ben/two/000", "carl/three/000"]
    # changed, and new
    old = stored_frames(out, "ben/two/000")
    shutil.copy(videos / "anna/one.mp4", videos / "ben/two.mp4")
    shutil.copy(videos / "anna/one.mp4", videos / "dora.mp4")
    shutil.copy(tmp_path / "labels/anna/one.npz", tmp_path / "labels/dora.npz")
    assert again() == [2, 2, 2] and "dora/000" in listed()
    assert stored_frames(out, "ben/two/000") != old and not (out / "ben/two/000/mel.npy").exists()
    # gone
    (videos / "carl/three.mp4").rename(tmp_path / "three.mp4")
    assert again() == [0, 0, 0]
    assert "carl/three/000" not in listed() and "1 no longer listed" in caplog.text
    # back
    (tmp_path / "three.mp4").rename(videos / "carl/three.mp4")
    assert again() == [0, 0, 0] and "carl/three/000" in listed()
    # unreadable first, mended later
    whole = (videos / "dora.mp4").read_bytes()
    (tmp_path / "labels/dora.npz").unlink()
    (videos / "dora.mp4").write_bytes(whole + b" ")
    assert again() == [0, 0, 0] and "dora" in runner.read_rejects(work, "tracks")
    assert "dora/000" not in listed()  # clips of the old file are gone
    shutil.copy(tmp_path / "labels/anna/one.npz", tmp_path / "labels/dora.npz")
    (videos / "dora.mp4").write_bytes(whole)
    assert again() == [1, 1, 1] and "dora/000" in listed()
