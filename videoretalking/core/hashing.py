"""The one way in which files are told apart by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from videoretalking.core.errors import UserError

_BLOCK = 1 << 20  # bytes read at once; hashlib.file_digest would need Python 3.11


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's content, hexadecimal.

    Raises:
        UserError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as handle:
            while block := handle.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    return digest.hexdigest()
