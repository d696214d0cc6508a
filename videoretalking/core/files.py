"""Writing files: whole or not at all, and never over what is no file or belongs to the input.

A writer works on a temporary file beside its target. The name is random, so that runs that share a folder (in
containers even with one process number) never meet, and it is created exclusively, so that nobody can plant a link
there. The file is synced and renamed in the end. Its writer holds a lock on it: what nobody holds was left by a
run that was killed, and the next writer of the same target removes it.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from videoretalking.core.errors import UserError, before_forced_exit

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MARK = ".partial"
_MAX_STEM = 100  # bytes of the target's name that the temporary one repeats; file systems take 255 in all
_MAX_SUFFIX = 20
_DEAD_AFTER = 86_400.0  # seconds: age of a leftover where the file system or the system has no locks

_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
}

_open: set[Path] = set()  # temporary files of this process


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success move it into place, on failure remove it.

    A symbolic link is followed: its target is replaced, the link stays. The temporary file exists and is empty; its
    name keeps the suffix of ``path``, for writers that choose a format by it. Missing folders are made.

    Raises:
        UserError: ``path`` is a folder, device, pipe or socket, or a link into a folder that does not exist.
        OSError: the folder cannot be written.
    """
    target = _target(Path(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    temporary, lock = _create(target)
    _open.add(temporary)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        _open.discard(temporary)
        if lock is not None:
            os.close(lock)


def check_output(path: str | Path, name: str, inputs: Mapping[str, str | Path]) -> None:
    """Make sure, before the work begins, that a result can be written and destroys nothing.

    Args:
        path: the result.
        name: how the message calls it, such as ``--outfile``.
        inputs: name -> file that must stay.

    Raises:
        UserError: the result is one of the inputs (through links or other spellings too), is no plain file, or
            lies where nothing can be written.
    """
    for other, file in inputs.items():
        if is_same_file(path, file):
            raise UserError(f"{name} {path} is the same file as {other} {file}: give the result another name")
    try:
        with suppress(_Discard), atomic_path(path):
            raise _Discard
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} {path} cannot be written: {reason}") from None


def check_folder(path: Path, name: str) -> None:
    """Make sure, before the work begins, that a path is a folder or can become one; nothing is made.

    Args:
        path: the folder.
        name: how the message calls it, such as ``the output folder``.

    Raises:
        UserError: it or something above it is a file.
    """
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise UserError(f"{name} {path} cannot be made: {place} is a file; give another folder")
            return


def is_same_file(first: str | Path, second: str | Path) -> bool:
    """Whether two paths lead to one file, through links and whatever their spelling; neither has to exist."""
    try:
        return Path(first).samefile(second)
    except (OSError, ValueError):
        return canonical(first) == canonical(second)


def canonical(path: str | Path) -> str:
    """One spelling for all paths to a file that need not exist: absolute, without links."""
    try:
        return os.path.normcase(Path(path).resolve())
    except (OSError, ValueError, RuntimeError):  # a circle of links, or no possible name
        return os.path.normcase(path)


@before_forced_exit
def remove_temporaries() -> None:
    """Remove the temporary files of this process, for an exit that leaves no time to unwind."""
    for path in list(_open):
        with suppress(OSError):
            path.unlink()


def _target(path: Path) -> Path:
    """Where a link leads, or the path itself; refuses everything that is no plain file."""
    try:
        target = path.resolve() if path.is_symlink() else path
        if path.is_symlink() and not target.parent.is_dir():
            raise UserError(f"{path} is a link to {target}, whose folder does not exist")
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    except RuntimeError:
        raise UserError(f"{path} is a link that leads in a circle") from None
    for is_kind, kind in _KINDS.items():
        if is_kind(mode):
            raise UserError(f"{path} is {kind}, not a file: give the name of a file to write")
    return target


def _create(target: Path) -> tuple[Path, int | None]:
    """A new empty file with the rights of any new file, and the lock that this process holds on it, if any."""
    while True:
        temporary = target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}{_ending(target)}")
        try:
            descriptor = os.open(
                temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666
            )
        except FileExistsError:
            continue
        if fcntl is None:
            os.close(descriptor)
            return temporary, None
        with suppress(OSError):  # no locks here, or a sweeper was faster, which the next line finds
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _sweep(target: Path) -> None:
    """Remove what killed runs left of the same target."""
    prefix, ending = _prefix(target), _ending(target)
    length = len(prefix) + 16 + len(ending)
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            name = entry.name
            if (
                len(name) == length
                and name.startswith(prefix)
                and name.endswith(ending)
                and _is_dead(entry.path)
            ):
                with suppress(OSError):
                    Path(entry.path).unlink()


def _is_dead(path: str) -> bool:
    """Whether no process holds this temporary file."""
    if fcntl is None:
        return _is_old(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return _is_old(path)
    finally:
        os.close(descriptor)
    return True


def _is_old(path: str) -> bool:
    try:
        return time.time() - Path(path).stat().st_mtime > _DEAD_AFTER
    except OSError:
        return False


def _prefix(target: Path) -> str:
    stem = target.name.removesuffix(_suffix(target))
    return f".{os.fsdecode(os.fsencode(stem)[:_MAX_STEM])}."


def _ending(target: Path) -> str:
    return f"{_MARK}{_suffix(target)}"


def _suffix(target: Path) -> str:
    return target.suffix if len(os.fsencode(target.suffix)) <= _MAX_SUFFIX else ""


class _Discard(Exception):  # noqa: N818 - a signal, not an error
    """Leaves :func:`atomic_path` without keeping the file."""
