"""What a mark says, and the code that carries it through damage.

64 bits: 12 say which project made the file, 4 in which format the mark is, 48 name the job at random. A checksum
of 16 bits (CRC-16/CCITT) and 8 zeros follow, and a convolutional code of rate 1/3 and constraint length 9
(:mod:`~videoretalking.provenance.trellis`) makes 264 code bits of these 88. Decoding is soft: a mark leaves many
weak votes for each bit, and what they weigh must not be lost before they are added. Where the checksum of the
likeliest message does not fit, the likeliest is looked for whose checksum does.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64, Ints64
from videoretalking.core.errors import UserError
from videoretalking.provenance.trellis import GENERATORS, MEMORY, OPEN, Trellis, convolve

PROJECT_ID = 0x5E7  # this project's results
FORMAT_VERSION = 1
PAYLOAD_BITS = 64
_PROJECT_BITS, _VERSION_BITS, _JOB_BITS = 12, 4, 48
OUR_BITS = _JOB_BITS  # what is open in a payload of this project and format
CHECK_BITS = 16  # of the checksum
_STEPS = PAYLOAD_BITS + CHECK_BITS + MEMORY
CODE_BITS = _STEPS * len(GENERATORS)  # 264
LISTED = 1_500  # messages that are asked for a fitting checksum; one in 65,536 fits by chance

_HEAD_BITS = _PROJECT_BITS + _VERSION_BITS


def _sending_order() -> Ints64:
    """[88] bits of the message as they are sent: project and version spread evenly, the zeros last.

    The decoder may know project and version beforehand; spread, they help against errors everywhere.
    """
    place = np.arange(_STEPS, dtype=np.float64)
    place[:_HEAD_BITS] = (np.arange(_HEAD_BITS) + 0.5) / _HEAD_BITS
    rest = PAYLOAD_BITS + CHECK_BITS - _HEAD_BITS
    place[_HEAD_BITS : _HEAD_BITS + rest] = (np.arange(rest) + 0.5) / rest
    return np.argsort(place, kind="stable")


_ORDER = _sending_order()
_IS_HEAD = _ORDER < _HEAD_BITS

Signs = Floats64


@dataclass(frozen=True)
class Payload:
    """What a mark says.

    Attributes:
        job: 0 to 2^48 - 1; tells the results of one project apart, and is drawn at random.
        project: 0 to 4095.
        version: 0 to 15, the format of the mark.
    """

    job: int
    project: int = PROJECT_ID
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name, bits in (("job", _JOB_BITS), ("project", _PROJECT_BITS), ("version", _VERSION_BITS)):
            if not 0 <= getattr(self, name) < 1 << bits:
                raise UserError(f"{name} of a mark must fit in {bits} bits, got {getattr(self, name)}")

    @classmethod
    def new(cls) -> Payload:
        """A payload of this project with a fresh job number."""
        return cls(secrets.randbits(_JOB_BITS))

    @classmethod
    def from_number(cls, number: int) -> Payload:
        """The inverse of :attr:`number`."""
        job = number & ((1 << _JOB_BITS) - 1)
        version = number >> _JOB_BITS & ((1 << _VERSION_BITS) - 1)
        return cls(job, number >> (_JOB_BITS + _VERSION_BITS), version)

    @property
    def number(self) -> int:
        """All 64 bits, the project's highest."""
        return (self.project << _VERSION_BITS | self.version) << _JOB_BITS | self.job

    @property
    def text(self) -> str:
        """16 hexadecimal digits."""
        return f"{self.number:016x}"


@dataclass(frozen=True)
class Decoded:
    """What the decoder made of soft values.

    Attributes:
        payload: None where the checksum does not fit.
        corrected: code bits whose sign the decoder turned round.
        code: [264] the code word of the most likely message, whether the checksum fits or not.
    """

    payload: Payload | None
    corrected: int
    code: Signs


def encode(payload: Payload) -> Signs:
    """[264] code bits, -1 or 1."""
    return convolve(_with_check(payload.number))


def decode(soft: npt.ArrayLike, ours: bool = False, least: float = math.inf) -> Decoded:
    """The most likely payload.

    Args:
        soft: [264] correlation of each code bit with what was received; the sign is the bit, the magnitude how sure
            it is, in any unit; 0 for a bit that was not received.
        ours: take for granted that it is a payload of this project and format, which leaves 48 bits to find out and
            bears a fifth more noise. The p-value of a finding then counts 2^48 payloads instead of 2^64.
        least: where the checksum of the most likely message does not fit, the most likely message is looked for
            whose checksum fits and whose code word has at least this correlation with ``soft``, among 1,500.
    """
    values = np.asarray(soft, dtype=np.float64)
    if values.shape != (CODE_BITS,):
        raise ValueError(f"expected [{CODE_BITS}] soft values, got {values.shape}")
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    known = np.where(_IS_HEAD, _with_check(Payload(0).number), OPEN) if ours else np.full(_STEPS, OPEN)
    known[-MEMORY:] = 0
    trellis = Trellis(values, known)
    bits = trellis.likeliest()
    if not _fits(bits) and trellis.score >= least:
        for _, number in islice(trellis.messages(trellis.score - least), LISTED):
            if _misfit(number) == 0:
                bits = np.array([number >> step & 1 for step in range(_STEPS)])
                break
    code = convolve(bits)
    corrected = int(np.count_nonzero(code * values < 0))
    return Decoded(_payload_of(bits) if _fits(bits) else None, corrected, code)


def _payload_of(bits: Ints64) -> Payload:
    message = bits[np.argsort(_ORDER)]
    return Payload.from_number(int("".join(map(str, message[:PAYLOAD_BITS].tolist())), 2))


def _fits(bits: Ints64) -> bool:
    return bool(np.array_equal(_with_check(_payload_of(bits).number), bits))


def _with_check(number: int) -> Ints64:
    """[88] the message: payload and checksum in the order of sending, and the zeros that empty the encoder."""
    text = f"{number:0{PAYLOAD_BITS}b}{_check_of(number):0{CHECK_BITS}b}{'0' * MEMORY}"
    return np.array(list(map(int, text)))[_ORDER]


def _check_of(number: int) -> int:
    check = 0xFFFF
    for byte in number.to_bytes(PAYLOAD_BITS // 8, "big"):
        check ^= byte << 8
        for _ in range(8):
            check = (check << 1 ^ (0x1021 if check & 0x8000 else 0)) & 0xFFFF
    return check


def _misfits() -> list[list[int]]:
    """[11][256] by how much the checksum misfits for each byte of a message in the order of sending.

    A checksum is linear but for a constant, which the first byte brings in.
    """
    constant = _check_of(0)
    bits = []
    for place in _ORDER.tolist():
        if place < PAYLOAD_BITS:
            bits.append(_check_of(1 << (PAYLOAD_BITS - 1 - place)) ^ constant)
        else:
            bits.append(
                1 << (PAYLOAD_BITS + CHECK_BITS - 1 - place) if place < PAYLOAD_BITS + CHECK_BITS else 0
            )
    table = []
    for start in range(0, _STEPS, 8):
        row = [constant if start == 0 else 0]
        for bit in bits[start : start + 8]:
            row += [value ^ bit for value in row]
        table.append(row)
    return table


_MISFITS = _misfits()


def _misfit(number: int) -> int:
    """What is wrong with the checksum of a message whose first bit is the lowest of the number; 0 if nothing."""
    wrong = 0
    for row in _MISFITS:
        wrong ^= row[number & 255]
        number >>= 8
    return wrong
