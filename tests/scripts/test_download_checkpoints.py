"""Checked downloads against a small server on loopback that misbehaves in every way that was seen."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from videoretalking.core.errors import UserError
from videoretalking.metrics import inception
from videoretalking.models.official.tables import BY_FILE
from videoretalking.scripts import download_checkpoints as script
from videoretalking.scripts.convert_official import EXPRESSION_FILE
from videoretalking.scripts.released_files import BY_HAND, FILES, ReleasedFile

OLD = b"PK\x03\x04" + b"A" * 9996
NEW = b"PK\x03\x04" + b"B" * 9996
HTML = b"<html>please sign in</html>"
Answer = tuple[int, bytes, dict[str, str]]


class Server(ThreadingHTTPServer):
    """Answers each path by a function of the request's headers; remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {}
        self.seen: list[dict[str, str]] = []

    def file(self, name: str, answer: Any, sha256: str = "") -> ReleasedFile:
        self.answers[f"/{name}"] = answer
        return ReleasedFile(f"http://127.0.0.1:{self.server_port}/{name}", 1, sha256=sha256)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        headers = dict(self.headers.items())
        self.server.seen.append({key: headers[key] for key in ("Range", "If-Range") if key in headers})
        status, body, fields = self.server.answers[self.path](headers)
        self.send_response(status)
        for key, value in fields.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(script, "_BLOCK", 1000)
    instance = Server()
    threading.Thread(target=instance.serve_forever, args=(0.01,), daemon=True).start()
    yield instance
    instance.shutdown()
    instance.server_close()


def whole(body: bytes, **fields: str) -> Any:
    headers = {"Content-Length": str(len(body)), **{key.replace("_", "-"): fields[key] for key in fields}}
    return lambda _: (200, body, headers)


def with_ranges(body: bytes, tag: str, cut: int | None = None) -> Any:
    """Serves ranges of ``body``; whole answers end after ``cut`` bytes."""

    def answer(headers: dict[str, str]) -> Answer:
        if "Range" in headers and headers.get("If-Range") == tag:
            start = int(headers["Range"].removeprefix("bytes=").rstrip("-"))
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            fields = {"Content-Length": str(len(body) - start), "Content-Range": span, "ETag": tag}
            return 206, body[start:], fields
        return 200, body[:cut], {"Content-Length": str(len(body)), "ETag": tag}

    return answer


def get(folder: Path, file: ReleasedFile, retries: int = 0) -> str:
    """The reason why the file was not fetched, or nothing."""
    return script.download({"a.pth": file}, folder, retries).get("a.pth", "")


def nothing_was_kept(folder: Path) -> bool:
    return not list(folder.iterdir())


def test_whole_file_is_recorded_and_verified_later(server: Server, tmp_path: Path) -> None:
    file = server.file("a", whole(NEW))
    assert get(tmp_path, file) == ""
    assert (tmp_path / "a.pth").read_bytes() == NEW
    assert script.read_sums(tmp_path) == {"a.pth": hashlib.sha256(NEW).hexdigest()}
    assert get(tmp_path, file) == ""
    assert len(server.seen) == 1  # nothing is fetched twice
    (tmp_path / "a.pth").write_bytes(NEW[:-1])
    assert "recorded was" in get(tmp_path, file)


def test_published_digests_are_binding(server: Server, tmp_path: Path) -> None:
    digest = hashlib.sha256(NEW).hexdigest()
    for known in (digest, digest[:8]):
        assert get(tmp_path, server.file("a", whole(NEW), known)) == ""
        assert script.read_sums(tmp_path) == {}  # nothing has to be trusted
        (tmp_path / "a.pth").write_bytes(OLD)
        assert "published is" in get(tmp_path, server.file("a", whole(NEW), known))
        assert (tmp_path / "a.pth").read_bytes() == OLD  # perhaps put there on purpose
        (tmp_path / "a.pth").unlink()
        assert known in get(tmp_path, server.file("a", whole(OLD), known))
        assert nothing_was_kept(tmp_path)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (whole(HTML, Content_Type="text/html; charset=utf-8"), "web page"),
        (whole(HTML), r"not a PyTorch file \(an HTML page\?\)"),
        (whole(b""), "'0' bytes"),
        (lambda _: (204, b"", {}), "the server says 204"),
        (lambda _: (404, b"", {"Content-Length": "0"}), "the server says 404"),
        (lambda _: (503, b"", {"Content-Length": "0"}), "503"),
        (lambda _: (200, NEW[:1234], {}), "does not say how long"),
        (lambda _: (200, NEW, {"Content-Length": "12x"}), "'12x' bytes"),
        (lambda _: (200, NEW, {"Content-Length": "-5"}), "'-5' bytes"),
        (lambda _: (200, NEW[:100], {"Content-Length": "9000"}), "broke|ended after 100 of 9000"),
        (lambda _: (206, NEW, {"Content-Length": "10000", "Content-Range": "bytes 0-9999/10000"}), "says 206"),
        (lambda _: (416, b"", {"Content-Range": "bytes */3000"}), "says 416"),
        (lambda _: (302, b"", {"Location": "file:///etc/passwd"}), "redirects to file:"),
        (lambda _: (302, b"", {"Location": "ftp://127.0.0.1:1/x"}), "redirects to ftp:"),
        (lambda _: (302, b"", {"Location": "/a"}), "redirects"),
        (lambda _: (200, NEW, {f"X-{number}": "a" for number in range(300)}), "no connection, or it broke"),
    ],
)  # fmt: skip
def test_wrong_answers_are_never_taken_for_the_file(
    server: Server, tmp_path: Path, answer: Any, reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as error:
        script.fetch(server.file("a", answer), tmp_path / "a.pth", retries=0)
    assert "\n" not in str(error.value)
    assert nothing_was_kept(tmp_path)


def test_broken_download_continues_where_it_ended(server: Server, tmp_path: Path) -> None:
    file = server.file("a", with_ranges(NEW, '"new"', cut=4000))
    assert get(tmp_path, file) != ""
    (part,) = tmp_path.iterdir()
    assert part.name.startswith(".a.pth.") and part.read_bytes() == NEW[:4000]
    assert get(tmp_path, file) == ""
    assert (tmp_path / "a.pth").read_bytes() == NEW
    assert server.seen == [{}, {}, {"Range": "bytes=4000-", "If-Range": '"new"'}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "a.pth"]


def test_one_run_tries_again_by_itself(server: Server, tmp_path: Path) -> None:
    assert get(tmp_path, server.file("a", with_ranges(NEW, '"new"', cut=4000)), retries=1) == ""
    assert (tmp_path / "a.pth").read_bytes() == NEW


def test_parts_of_two_files_are_never_mixed(server: Server, tmp_path: Path) -> None:
    """The file on the server changed while half of the old one lay here."""
    get(tmp_path, server.file("a", with_ranges(OLD, '"old"', cut=4000)))
    assert get(tmp_path, server.file("a", with_ranges(NEW, '"new"'))) == ""
    assert (tmp_path / "a.pth").read_bytes() == NEW
    assert server.seen[-1] == {}  # begun anew
    assert not list(tmp_path.glob(".a.pth.*"))


@pytest.mark.parametrize("span", ["bytes 0-9999/10000", "bytes 4000-9999/12000", ""])
def test_a_range_that_was_not_asked_for_is_not_appended(server: Server, tmp_path: Path, span: str) -> None:
    def answer(headers: dict[str, str]) -> Answer:
        fields = {"Content-Length": "10000", "ETag": '"new"'}
        if "Range" in headers:
            return 206, NEW, {**fields, "Content-Range": span}
        return 200, NEW[:4000] if len(server.seen) == 1 else NEW, fields

    get(tmp_path, server.file("a", answer))
    assert len(list(tmp_path.glob(".a.pth.*"))) == 1
    assert get(tmp_path, server.file("a", answer)) == ""
    assert (tmp_path / "a.pth").read_bytes() == NEW


def test_without_a_strong_tag_nothing_is_continued(server: Server, tmp_path: Path) -> None:
    for tag in ("", 'W/"weak"'):
        assert get(tmp_path, server.file("a", with_ranges(NEW, tag, cut=4000))) != ""
        assert nothing_was_kept(tmp_path)


def test_what_was_encrypted_stays_encrypted() -> None:
    answer = requests.Response()
    answer.status_code, answer.url = 302, "https://example.org/a"
    for target, refused in (
        ("http://example.org/b", True),
        ("/b", False),
        ("https://cdn.example.org", False),
    ):
        answer.headers["Location"] = target
        if refused:
            with pytest.raises(UserError, match=r"redirects to http://example\.org/b, which is refused"):
                script.refuse_downgrade(answer)
        else:
            script.refuse_downgrade(answer)


def test_web_pages_that_lie_there_are_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(HTML)
    assert "an HTML page?" in get(tmp_path, ReleasedFile("http://127.0.0.1:9/a", 1))
    assert script.read_sums(tmp_path) == {}


def test_damaged_list_of_checksums_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(NEW)
    for damage in (b"x", b"onlyone\n", b"\xff"):
        (tmp_path / "SHA256SUMS").write_bytes(damage)
        assert "SHA256SUMS, line 1" in get(tmp_path, ReleasedFile("http://127.0.0.1:9/a", 1))


def test_disk_full_names_the_place(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(script.CheckedDownloader, "_write", full)
    reason = get(tmp_path, server.file("a", with_ranges(NEW, '"new"')))
    assert reason == f"cannot write {tmp_path / 'a.pth'}: No space left on device"
    assert nothing_was_kept(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    assert "cannot write" in get(tmp_path / "file", server.file("a", whole(NEW)))


def test_all_that_is_missing_is_named_with_its_place(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    table = {
        "a.pth": server.file("a", whole(NEW)),
        "b.pth": ReleasedFile("http://127.0.0.1:9/b", 3, ("eval",)),
        "c.pth": ReleasedFile("http://127.0.0.1:9/c", 4, ("dub",), place="torch"),
    }
    monkeypatch.setattr(script, "FILES", table)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(UserError, match="2 of 3 files are missing") as error:
        script.main(["a.pth", "b.pth", "c.pth", "--dst", str(tmp_path)])
    assert f"b.pth into {tmp_path}" in str(error.value)
    assert f"c.pth into {tmp_path / 'hub' / 'checkpoints'}" in str(error.value)
    assert caplog.text.count("there is no connection") == 2
    assert "3 files, about 8 MB" in caplog.text
    script.main(["a.pth", "--dst", str(tmp_path)])  # what is there needs no network
    with pytest.raises(UserError, match="Wav2Lip"):
        script.main(["wav2lip.pth", "--dst", str(tmp_path)])
    with pytest.raises(UserError, match="unknown file"):
        script.main(["nothing.pth", "--dst", str(tmp_path)])


def test_groups_hold_what_their_command_needs(capsys: pytest.CaptureFixture[str]) -> None:
    dub, evaluation = script.choose_files([], "dub"), script.choose_files([], "eval")
    assert {"DNet.pt", "LNet.pth", "ENet.pth", "expression.mat", "s3fd-619a316812.pth"} <= set(dub)
    assert not {"GPEN-BFR-512.pth", "vgg19-dcbb9e9d.pth", "RetinaFace-R50.pth", "syncnet_v2.model"} & set(dub)
    assert set(evaluation) == {"syncnet_v2.model", inception.FILE_NAME, "alexnet-owt-7be5be79.pth"}
    assert script.choose_files([], "all") == dict(FILES)
    script.main(["--list"])
    listing = capsys.readouterr().out
    assert "  349 MB  GFPGANv1.3.pth  (dub)" in listing
    assert " by hand  backbone.pth  (train, eval)" in listing


def test_what_waits_to_be_converted_is_known_to_the_converter() -> None:
    waiting = {name for name, file in FILES.items() if file.place == "released"}
    assert {*waiting, *BY_HAND} <= {*BY_FILE, EXPRESSION_FILE}
    for name, file in FILES.items():
        assert file.url.startswith("https://") and file.url.endswith(f"/{name}")
        assert file.sha256 == file.sha256.lower() and len(file.sha256) in (0, 8, 64)
        if len(file.sha256) == 8:
            assert file.sha256 in name
