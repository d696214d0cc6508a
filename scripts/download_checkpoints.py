"""Fetch the released checkpoints where the network allows it.

``python -m scripts.download_checkpoints --for dub`` fetches what a dub with the released weights needs, ``train``
and ``eval`` what those need beside, ``all`` everything; names fetch single files. A broken download is continued
where the server vouches that its file is still the same, and begun anew elsewhere. Every file is verified: against
its published digest where one is known, else against the one that its first download recorded in ``SHA256SUMS``.
Files that cannot be fetched by a program are listed with where to get them.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pooch
import requests
from tqdm import tqdm

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.core.hashing import file_hash
from videoretalking.core.locations import checkpoint_folder
from videoretalking.scripts.released_files import BY_HAND, FILES, GROUPS, ReleasedFile, check_content

logger = logging.getLogger(__name__)

_SUMS = "SHA256SUMS"
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")
_BLOCK = 1 << 20
_TIMEOUT = (10.0, 30.0)  # seconds until a connection and between two blocks
_RETRIES = 2
_ALL = "all"


class CheckedDownloader:
    """Streams one file for :mod:`pooch`, which tries again, checks the digest and moves the file into place.

    What arrives is never trusted: web pages, empty and partial answers are refused, and a file is whole only if
    it is as long as announced. A connection that breaks leaves ``.<name>.<tag>.part`` behind, where ``<tag>``
    stands for the address and the server's strong entity tag: only the very same content is ever continued.

    Args:
        file: what is fetched.
        target: where it will lie.
    """

    def __init__(self, file: ReleasedFile, target: Path) -> None:
        self.file = file
        self.target = target

    def __call__(self, url: str, output_file: str, _: object) -> None:
        """Write the content of ``url`` to ``output_file``.

        Raises:
            UserError: trying again would not help.
            ValueError: the file arrived incomplete; so do the errors of ``requests``.
        """
        output = Path(output_file)
        with requests.Session() as session:
            try:
                answer = self._ask(session, url, {})
            except (requests.ConnectionError, requests.Timeout) as error:
                raise UserError(f"cannot fetch {url}: {_reason(error)}") from None
            total, part = self._check(answer, url), self._part(answer, url)
            have = 0
            try:
                if part is not None and part.is_file():
                    part.replace(output)  # whoever moves it owns it: two downloads never write to one file
                    answer, have = self._continue(session, answer, url, output, total)
                self._write(answer, output, have, total)
            except BaseException as error:  # an interrupt too; but a full disk is not to be kept full
                if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
                    raise
                if part is not None and 0 < output.stat().st_size < (total or 0):
                    output.replace(part)
                raise
        check_content(output)
        if not file_hash(output).startswith(self.file.sha256):
            raise ValueError(f"its SHA-256 is not {self.file.sha256}..., as published")

    def _ask(self, session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
        return session.get(
            url,
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
            timeout=_TIMEOUT,
            hooks={"response": refuse_downgrade},
        )

    def _check(self, answer: requests.Response, url: str) -> int | None:
        """The announced length; None where the digest or the transfer itself tells a cut file."""
        status, length = answer.status_code, answer.headers.get("Content-Length")
        if status >= 500:
            answer.raise_for_status()
        if status != 200:
            raise UserError(f"cannot fetch {url}: the server says {status} {answer.reason}")
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise UserError(f"cannot fetch {url}: the server sends a web page, perhaps to sign in")
        if length is None:
            if self.file.sha256 or answer.headers.get("Transfer-Encoding") == "chunked":
                return None
            raise UserError(f"cannot fetch {url}: the server does not say how long the file is")
        if not length.isdecimal() or int(length) == 0:
            raise UserError(f"cannot fetch {url}: the server says the file is {length!r} bytes long")
        return int(length)

    def _part(self, answer: requests.Response, url: str) -> Path | None:
        """Where a partial file of this very content is kept; those of other content are removed."""
        tag = answer.headers.get("ETag", "")
        name = f".{self.target.name}.{hashlib.sha256(f'{url} {tag}'.encode()).hexdigest()[:16]}.part"
        part = self.target.with_name(name) if tag.startswith('"') else None
        for old in self.target.parent.glob(f".{self.target.name}.*.part"):
            if old != part:
                old.unlink(missing_ok=True)
        return part

    def _continue(
        self, session: requests.Session, whole: requests.Response, url: str, output: Path, total: int | None
    ) -> tuple[requests.Response, int]:
        """The answer with the missing bytes and how many are there already; else the whole file again."""
        have, tag = output.stat().st_size, whole.headers["ETag"]
        if total is None or not 0 < have < total:
            return whole, 0
        rest = self._ask(session, url, {"Range": f"bytes={have}-", "If-Range": tag})
        expected = {"Content-Range": f"bytes {have}-{total - 1}/{total}", "ETag": tag}
        if rest.status_code == 206 and all(rest.headers.get(key) == expected[key] for key in expected):
            whole.close()
            return rest, have
        rest.close()
        return whole, 0

    def _write(self, answer: requests.Response, output: Path, have: int, total: int | None) -> None:
        with (
            output.open("ab" if have else "wb") as handle,
            tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc=self.target.name, leave=False
            ) as progress,
        ):
            for block in answer.iter_content(_BLOCK):
                handle.write(block)
                progress.update(len(block))
        size = output.stat().st_size
        if total is not None and size != total:
            raise ValueError(f"the connection ended after {size} of {total} bytes")


def refuse_downgrade(answer: requests.Response, **_: object) -> None:
    """Hook of ``requests``: redirects stay on the web, and what began encrypted stays encrypted.

    Raises:
        UserError: this one does not.
    """
    if not answer.is_redirect:
        return
    target = urljoin(answer.url, answer.headers["Location"])
    allowed = {"https"} if urlsplit(answer.url).scheme == "https" else {"http", "https"}
    if urlsplit(target).scheme not in allowed:
        raise UserError(f"cannot fetch {answer.url}: it redirects to {target}, which is refused")


def fetch(file: ReleasedFile, target: Path, retries: int = _RETRIES) -> None:
    """Download a file to ``target``; a file under this name is whole and what it should be.

    Raises:
        UserError: the address cannot be reached, sends something else, or the place cannot be written to.
    """
    registry = pooch.create(
        path=target.parent,
        base_url="",
        registry={target.name: file.sha256 if len(file.sha256) == 64 else None},
        urls={target.name: file.url},
        retry_if_failed=retries,
    )
    try:
        registry.fetch(target.name, downloader=CheckedDownloader(file, target))
    except (requests.RequestException, ValueError) as error:
        raise UserError(f"cannot fetch {file.url}: {_reason(error)}; run again to try again") from None
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from None


def _reason(error: Exception) -> str:
    """What went wrong, without the innards of the libraries."""
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        return "there is no connection, or it broke"
    return str(error)


def read_sums(folder: Path) -> dict[str, str]:
    """Recorded checksums by file name; the format is that of ``sha256sum``.

    Raises:
        UserError: the list is damaged.
    """
    path = folder / _SUMS
    if not path.exists():
        return {}
    sums = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        match = _SUM_LINE.fullmatch(line)
        if match:
            sums[match[2]] = match[1]
        elif line.strip():
            raise UserError(f"{path}, line {number} is no checksum and file name: remove the line")
    return sums


def verify(file: ReleasedFile, path: Path) -> None:
    """Check a file against its published digest; one without is recorded at first and compared later.

    Raises:
        UserError: the file is no file of weights, or not the one that was published or recorded.
    """
    check_content(path)
    digest = file_hash(path)
    if file.sha256:
        if not digest.startswith(file.sha256):
            raise UserError(
                f"{path} has SHA-256 {digest}, published is {file.sha256}: delete it and fetch it again"
            )
        return
    sums = read_sums(path.parent)
    if sums.get(path.name, digest) != digest:
        raise UserError(
            f"{path} has SHA-256 {digest}, recorded was {sums[path.name]}: delete it and fetch it again, or remove "
            f"its line from {path.parent / _SUMS} if you replaced it on purpose"
        )
    if path.name not in sums:
        lines = [f"{value}  {key}\n" for key, value in sorted({**sums, path.name: digest}.items())]
        with atomic_path(path.parent / _SUMS) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


def download(files: Mapping[str, ReleasedFile], released: Path, retries: int = _RETRIES) -> dict[str, str]:
    """Fetch what is missing and verify what is there.

    Args:
        files: what is wanted.
        released: folder of the files that wait to be converted.
        retries: how often a broken download is tried again.

    Returns:
        Name -> reason of each file that could not be fetched or verified.
    """
    failures = {}
    for name, file in files.items():
        path = file.folder(released) / name
        try:
            if not path.exists():
                logger.info("%s: about %d MB", name, file.megabytes)
                fetch(file, path, retries)
            verify(file, path)
            logger.info("%s is in place and verified", path)
        except UserError as error:
            failures[name] = str(error)
        except OSError as error:
            failures[name] = f"cannot write {error.filename or path.parent}: {error.strerror or error}"
    return failures


def choose_files(names: Sequence[str], group: str) -> dict[str, ReleasedFile]:
    """The files of a command line: those named, else those of the group.

    Raises:
        UserError: a name that is not in the table, or that no program can fetch.
    """
    for name in names:
        if name in BY_HAND:
            raise UserError(f"{name} cannot be fetched by a program; get it from {BY_HAND[name].source}")
        if name not in FILES:
            raise UserError(f"unknown file {name!r}, choose from {', '.join(FILES)}")
    if names:
        return {name: FILES[name] for name in names}
    return {name: file for name, file in FILES.items() if group in (_ALL, *file.groups)}


def _listing() -> str:
    lines = [f"{file.megabytes:5d} MB  {name}  ({', '.join(file.groups)})" for name, file in FILES.items()]
    lines += [f" by hand  {name}  ({', '.join(file.groups)})" for name, file in BY_HAND.items()]
    return "\n".join(line.replace("()", f"({_ALL})") for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser(description="Fetch the released checkpoints.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="single files instead of a group")
    parser.add_argument("--for", dest="group", choices=(*GROUPS, _ALL), default="dub", help="default: dub")
    parser.add_argument(
        "--dst",
        type=Path,
        default=checkpoint_folder("released"),
        help="folder of the files that are to be converted (default: %(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="list all files with size and group, and stop")
    options = parser.parse_args(arguments)
    if options.list:
        print(_listing())
        return
    released: Path = options.dst
    files = choose_files(options.names, options.group)
    size = sum(file.megabytes for file in files.values())
    logger.info("%d files, about %d MB, into %s", len(files), size, released)
    failures = download(files, released)
    for name, file in BY_HAND.items():
        if not options.names and options.group in (_ALL, *file.groups) and not (released / name).exists():
            logger.info("%s must be fetched by hand, from %s, into %s", name, file.source, released)
    if failures:
        for reason in failures.values():
            logger.error("%s", reason)
        places = "; ".join(f"{name} into {files[name].folder(released)}" for name in failures)
        raise UserError(
            f"{len(failures)} of {len(files)} files are missing or wrong, see above; "
            f"run again, or place them yourself: {places}"
        )
    logger.info("next: python -m scripts.convert_official --src %s", released)


if __name__ == "__main__":
    run_command(main)
