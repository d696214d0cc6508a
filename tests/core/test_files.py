from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path, canonical, check_output, is_same_file, remove_temporaries

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="Unix files and locks")
ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, text: str = "new") -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_file_replaces_the_old_one_and_keeps_its_suffix(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x.json"
    write(target, "old")
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".json"
        assert temporary.read_bytes() == b"" and target.read_text() == "old"
        temporary.write_text("new")
    assert target.read_text() == "new" and names(target.parent) == ["x.json"]


def test_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "x.bin"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and names(tmp_path) == ["x.bin"]


@unix_only
def test_new_files_have_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write(tmp_path / "x.bin")
    finally:
        os.umask(old)
    assert (tmp_path / "x.bin").stat().st_mode & 0o777 == 0o640


def test_names_of_any_length_that_the_file_system_takes(tmp_path: Path) -> None:
    for name in ("n" * 245 + ".mp4", "x." + "s" * 250, "測" * 80 + ".mp4", ".hidden", "a.b.c"):
        write(tmp_path / name)
    assert len(names(tmp_path)) == 5


def test_two_writers_in_one_process_never_share_a_temporary_file(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x") as first, atomic_path(tmp_path / "x") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert names(tmp_path) == ["x"]


@unix_only
def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    (tmp_path / "elsewhere" / "target").write_text("old")
    link.symlink_to(tmp_path / "elsewhere" / "target")
    dangling.symlink_to(tmp_path / "elsewhere" / "fresh")
    write(link)
    write(dangling)
    assert link.is_symlink() and dangling.is_symlink()
    assert names(tmp_path / "elsewhere") == ["fresh", "target"]
    assert link.read_text() == dangling.read_text() == "new"
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises((UserError, OSError)):
        write(tmp_path / "circle")


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _device(path: Path) -> None:
    path.symlink_to("/dev/full")  # every write to it fails, so nothing is lost if the refusal fails


def facts(path: Path) -> tuple[int, ...]:
    """What tells an entry from another one; that it was looked at does not."""
    found = path.lstat()
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns


@unix_only
@pytest.mark.parametrize(
    ("make", "kind"), [(_folder, "folder"), (_pipe, "pipe"), (_socket, "socket"), (_device, "device")]
)
def test_what_is_no_file_is_never_replaced(
    make: Callable[[Path], None], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    place = Path("place")
    make(place)
    before = facts(place)
    with pytest.raises(UserError, match=f"place is a {kind}"):
        write(place)
    with pytest.raises(UserError, match=f"--report: place is a {kind}"):
        check_output(place, "--report", {})
    assert facts(place) == before and names(tmp_path) == ["place"]


@unix_only
def test_what_a_killed_run_left_is_swept_and_what_a_live_one_holds_is_not(tmp_path: Path) -> None:
    code = "import sys, time; from videoretalking.core.files import atomic_path\n"
    code += "with atomic_path(sys.argv[1]) as path: path.write_text('half'); time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    target = tmp_path / "x.bin"
    with subprocess.Popen([sys.executable, "-c", code, str(target)], env=environment) as process:
        deadline = time.monotonic() + 30
        while not any(path.stat().st_size for path in tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        (half,) = tmp_path.iterdir()
        write(target)
        assert half.read_text() == "half"
        process.kill()
    other = tmp_path / half.name.replace(".x.", ".y.")
    other.write_text("of another target")
    write(target)
    assert names(tmp_path) == sorted([other.name, "x.bin"])


def test_a_forced_exit_removes_what_is_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        remove_temporaries()
        assert names(tmp_path) == []


def test_one_file_under_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_text("")
    assert is_same_file("a.mp4", tmp_path / "." / "a.mp4")
    assert is_same_file("new.mp4", "./new.mp4") and not is_same_file("a.mp4", "new.mp4")
    assert canonical("./x/../new.mp4") == canonical(tmp_path / "new.mp4")
    assert not is_same_file("a\0b", "c") and not is_same_file("n" * 300, "m" * 300)


@unix_only
def test_results_that_are_inputs_are_refused_whatever_their_spelling(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    source.write_text("precious")
    (tmp_path / "soft.mp4").symlink_to(source)
    (tmp_path / "hard.mp4").hardlink_to(source)
    for name in ("source.mp4", "./source.mp4", "soft.mp4", "hard.mp4"):
        with pytest.raises(UserError, match=r"--outfile .* is the same file as --face"):
            check_output(tmp_path / name, "--outfile", {"--face": source})
    check_output(tmp_path / "other.mp4", "--outfile", {"--face": source})
    assert source.read_text() == "precious" and names(tmp_path) == ["hard.mp4", "soft.mp4", "source.mp4"]


def test_places_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.json", tmp_path / ("n" * 300), "a\0b"):
        with pytest.raises(UserError, match=r"--report .* cannot be written") as caught:
            check_output(path, "--report", {})
        assert "\n" not in str(caught.value)
