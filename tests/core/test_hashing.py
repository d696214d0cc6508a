from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash


def test_hash_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    assert file_hash(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    with pytest.raises(UserError, match="cannot read"):
        file_hash(tmp_path / "missing")
