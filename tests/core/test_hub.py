"""Weights from folders and from the hub, and to it, without a network: the hub is a fake."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from videoretalking import Retalker
from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.errors import UserError
from videoretalking.core.hub import fetch_folder
from videoretalking.core.locations import bundled
from videoretalking.models.catalog import from_pretrained, save_network
from videoretalking.models.landmarks import LandmarkNet, LandmarkNetConfig
from videoretalking.pipeline.config import InferenceConfig, RuntimeConfig
from videoretalking.scripts import push

DEMO = bundled("checkpoints/demo")


class FakeHub:
    """``huggingface_hub`` with one folder as the whole hub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, *, repo_id: str, private: bool, exist_ok: bool) -> None:
        self.calls.append((repo_id, {"private": private, "exist_ok": exist_ok}))

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, self.folder / repo_id)

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.calls.append((repo_id, {"revision": revision, "allow_patterns": allow_patterns}))
        if not (self.folder / repo_id).is_dir():
            raise OSError("404: no such repository\nmore text")
        return str(self.folder / repo_id)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    module = ModuleType("huggingface_hub")
    module.HfApi = lambda: fake  # type: ignore[attr-defined]
    module.snapshot_download = fake.snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return fake


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with one network."""
    extra = {"step": 7, "figures": {"nme": 0.05}}
    network = LandmarkNet(LandmarkNetConfig(width_multiplier=0.25))
    save_network(tmp_path / "run" / "landmarks.safetensors", network, "CC BY 4.0, drawn faces", extra)
    (tmp_path / "run" / "LICENSE").write_text("the text of the license\n")
    return tmp_path / "run"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["push", *map(str, arguments)])
    push.main()


def test_what_was_pushed_can_be_loaded(hub: FakeHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "state.pt").write_bytes(b"stays here")
    command(monkeypatch, run, "somebody/landmarks")
    pushed = hub.folder / "somebody" / "landmarks"
    assert sorted(path.name for path in pushed.iterdir()) == ["LICENSE", "README.md", "landmarks.safetensors"]
    assert (pushed / "LICENSE").read_text() == "the text of the license\n"
    card = (pushed / "README.md").read_text()
    assert card.startswith("---\nlicense: other\n")
    for text in (
        "CC BY 4.0, drawn faces",
        "7 steps",
        "nme 0.05",
        'from_pretrained("somebody/landmarks", "landmarks")',
    ):
        assert text in card
    assert hub.calls == [("somebody/landmarks", {"private": True, "exist_ok": True})]
    network = from_pretrained("somebody/landmarks", revision="v1")
    assert isinstance(network, LandmarkNet) and network.config.width_multiplier == 0.25
    _, options = hub.calls[-1]
    assert options["revision"] == "v1" and "*.safetensors" in options["allow_patterns"]
    assert not any(pattern.endswith((".py", ".pt", ".bin", "*")) for pattern in options["allow_patterns"][:2])


def test_a_folder_needs_no_hub(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # to import it is an error
    assert isinstance(from_pretrained(run), LandmarkNet)
    assert isinstance(from_pretrained(run / "landmarks.safetensors", "landmarks"), LandmarkNet)
    with pytest.raises(UserError, match=r"holds dnet, enet, .*: name the one that is wanted"):
        from_pretrained(DEMO)
    with pytest.raises(UserError, match=r"lnet.safetensors does not exist"):
        from_pretrained(run, "lnet")
    with pytest.raises(UserError, match=r"pip install 'videoretalking\[hub\]'$"):
        from_pretrained("somebody/landmarks")
    with pytest.raises(UserError, match="is no folder, and no repository"):
        fetch_folder("no/such/folder")


def test_a_repository_that_is_not_there(hub: FakeHub) -> None:
    with pytest.raises(
        UserError, match=r"^cannot fetch some/body from the hub, .*: 404: no such repository$"
    ):
        fetch_folder("some/body")


def test_a_whole_set_of_weights_dubs_from_the_hub(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "LICENSE").write_text("terms")
    command(monkeypatch, DEMO, "somebody/demo", "--license-file", tmp_path / "LICENSE", "--public")
    assert hub.calls == [("somebody/demo", {"private": False, "exist_ok": True})]
    card = (hub.folder / "somebody" / "demo" / "README.md").read_text()
    assert (DEMO / "MODEL_CARD.md").read_text().rstrip() in card
    assert 'Retalker.from_pretrained("somebody/demo")' in card
    cpu = InferenceConfig(runtime=RuntimeConfig(device="cpu"))
    retalker = Retalker.from_pretrained("somebody/demo", cpu)
    assert retalker.weights.folder == hub.folder / "somebody" / "demo"
    assert Retalker.from_pretrained(DEMO, cpu).weights.folder == DEMO
    assert Retalker.from_pretrained(cpu).config.runtime.device == "cpu"


def test_what_may_not_be_pushed(
    hub: FakeHub, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"holds no \*\.safetensors"):
        command(monkeypatch, tmp_path, "a/b")
    with pytest.raises(UserError, match=r"write owner/name"):
        command(monkeypatch, run, "b")
    (run / "LICENSE").unlink()
    with pytest.raises(UserError, match=r"there is no license text .*--license-file"):
        command(monkeypatch, run, "a/b")
    (run / "LICENSE").write_text("terms")
    save_network(
        run / "landmarks.safetensors", LandmarkNet(LandmarkNetConfig(width_multiplier=0.25)), push._UNSTATED
    )
    with pytest.raises(UserError, match=r"does not say under which license .* set loop.license"):
        command(monkeypatch, run, "a/b")
    assert hub.calls == []


def test_a_dry_run_needs_no_hub(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    command(monkeypatch, run, "a/b", "--dry-run", "--output", tmp_path / "staged")
    assert read_metadata(tmp_path / "staged" / "landmarks.safetensors")["network"] == "landmarks"


def test_a_refusal_is_one_line(hub: FakeHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise OSError("401 Unauthorized\nlong text")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(UserError, match=r"^the hub refuses a/b: 401 Unauthorized; are you logged in"):
        command(monkeypatch, run, "a/b")
