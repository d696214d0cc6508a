"""Keys of the marks: who holds the key can find a mark, and also forge or remove it.

The public key is part of this file. Everybody can find marks made with it, which is its purpose, and for the same
reason everybody can remove or imitate them. A key of one's own is a file of random bytes in hexadecimal; only its
holder finds the marks made with it.

Draws come from SHAKE-256 and not from numpy's generators, whose streams may change between versions: a mark must be
found years later.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from videoretalking.core.errors import UserError

MIN_BYTES = 16
_MAX_FILE = 1 << 16  # bytes; a key file is short
_DOMAIN = b"videoretalking mark 1"


@dataclass(frozen=True)
class Key:
    """A secret and the random numbers that follow from it.

    Attributes:
        secret: at least 16 bytes.
        name: what messages and results call it; never the secret.
    """

    secret: bytes
    name: str = "private"

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_BYTES:
            raise UserError(f"a key needs at least {MIN_BYTES} bytes, this one has {len(self.secret)}")

    def __repr__(self) -> str:
        return f"Key(name={self.name!r})"  # a log must not hold the secret

    def stream(self, purpose: str, count: int) -> bytes:
        """``count`` bytes that only this key and this purpose give, such as ``"video phases"``."""
        label = purpose.encode()
        head = b"".join(
            len(part).to_bytes(4, "big") + part for part in (_DOMAIN, self.secret, label)
        )  # lengths keep two pairs of secret and purpose from giving one text
        return hashlib.shake_256(head).digest(count)

    def uniform(self, purpose: str, count: int) -> npt.NDArray[np.float64]:
        """[count] numbers, uniform in [0, 1)."""
        words = np.frombuffer(self.stream(purpose, 8 * count), dtype=">u8")
        return np.asarray((words >> np.uint64(11)) * 2.0**-53, dtype=np.float64)

    def signs(self, purpose: str, count: int) -> npt.NDArray[np.float64]:
        """[count] fair draws of -1 and 1."""
        bits = np.unpackbits(np.frombuffer(self.stream(purpose, (count + 7) // 8), dtype=np.uint8))
        return np.where(bits[:count] == 1, 1.0, -1.0)

    def order(self, purpose: str, count: int) -> npt.NDArray[np.int64]:
        """[count] a permutation of 0 to ``count - 1``."""
        return np.argsort(self.uniform(purpose, count), kind="stable").astype(np.int64)


PUBLIC_KEY = Key(hashlib.sha256(b"VideoReTalking: made by a machine; anybody may look").digest(), "public")


def load_key(path: str | Path | None) -> Key:
    """Read a key file; without one, the public key.

    A key file holds the secret in hexadecimal, either alone or as JSON ``{"name": "...", "secret": "..."}``.

    Raises:
        UserError: the file cannot be read or holds no key.
    """
    if path is None:
        return PUBLIC_KEY
    try:
        with Path(path).open("rb") as handle:
            text = handle.read(_MAX_FILE).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"cannot read the key file {path}: {reason}") from None
    name, secret = Path(path).stem, text
    if text.startswith("{"):
        try:
            fields = json.loads(text)
            secret, name = fields["secret"], str(fields.get("name", name))
        except (ValueError, KeyError):
            raise UserError(f'the key file {path} is no JSON with a field "secret"') from None
    try:
        return Key(bytes.fromhex(secret), name)
    except (ValueError, TypeError):
        raise UserError(
            f"the key file {path} holds no hexadecimal digits: make one with videoretalking detect --new-key"
        ) from None
    except UserError as error:
        raise UserError(f"the key file {path}: {error}") from None


def new_key_text(name: str) -> str:
    """Content of a key file with a fresh secret of 32 bytes."""
    return json.dumps({"name": name, "secret": secrets.token_hex(32)}, indent=2) + "\n"
