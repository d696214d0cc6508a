"""Resumable, checked downloads against a small server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from videoretalking.core.errors import UserError
from videoretalking.scripts import download_checkpoints as download

CONTENT = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; ``/broken`` ends early, ``/plain`` ignores ranges."""

    ranges: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        Handler.ranges.append(asked)
        if self.path == "/absent":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.path != "/plain" else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/broken" and not start else body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.ranges = []
    instance = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=instance.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{instance.server_port}"
    instance.shutdown()
    instance.server_close()


def test_whole_file_is_recorded_and_verified_later(server: str, tmp_path: Path) -> None:
    sources = {"a.pth": f"{server}/a"}
    assert download.download(tmp_path, sources) == []
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert list(download.read_sums(tmp_path)) == ["a.pth"]
    assert download.download(tmp_path, sources) == []
    assert len(Handler.ranges) == 1  # nothing is fetched twice
    (tmp_path / "a.pth").write_bytes(CONTENT[:-1])
    (failure,) = download.download(tmp_path, sources)
    assert "a.pth" in failure
    assert "recorded" in failure


def test_broken_download_continues_where_it_ended(server: str, tmp_path: Path) -> None:
    target = tmp_path / "a.pth"
    with pytest.raises(UserError, match="run again to continue"):
        download.fetch(f"{server}/broken", target)
    assert not target.exists()
    download.fetch(f"{server}/broken", target)
    assert target.read_bytes() == CONTENT
    assert Handler.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_server_without_ranges_starts_over(server: str, tmp_path: Path) -> None:
    (tmp_path / "a.pth.part").write_bytes(b"x" * 10)
    download.fetch(f"{server}/plain", tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_partial_file_that_is_already_whole(server: str, tmp_path: Path) -> None:
    (tmp_path / "a.pth.part").write_bytes(CONTENT)
    download.fetch(f"{server}/a", tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_what_cannot_be_fetched_is_said(server: str, tmp_path: Path) -> None:
    failures = download.download(tmp_path, {"a.pth": f"{server}/absent", "b.pth": "http://127.0.0.1:9/b"})
    assert "404" in failures[0]
    assert "b" in failures[1]
    assert "place the file in" in failures[1]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="Wav2Lip"):
        download.main(["wav2lip.pth", "--dst", str(tmp_path)])
    with pytest.raises(UserError, match="unknown file"):
        download.main(["nothing.pth", "--dst", str(tmp_path)])
