"""What a mark says, and the code that carries it through damage.

64 bits: 12 say which project made the file, 4 in which format the mark is, 48 name the job at random. A checksum
of 16 bits (CRC-16/CCITT) and 8 zeros follow, and a convolutional code of rate 1/3 and constraint length 9
(generators 557, 663 and 711, octal, free distance 18) makes 264 code bits of these 88. The decoder is Viterbi's, on
soft values: a mark leaves many weak votes for each bit, and what they weigh must not be lost before they are added.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from videoretalking.core.errors import UserError

PROJECT_ID = 0x5E7  # this project's results
FORMAT_VERSION = 1
PAYLOAD_BITS = 64
_PROJECT_BITS, _VERSION_BITS, _JOB_BITS = 12, 4, 48
OUR_BITS = _JOB_BITS  # what is open in a payload of this project and format
CHECK_BITS = 16  # of the checksum
_MEMORY = 8  # bits that the encoder remembers
_STATES = 1 << _MEMORY
_GENERATORS = (0o557, 0o663, 0o711)
_STEPS = PAYLOAD_BITS + CHECK_BITS + _MEMORY
CODE_BITS = _STEPS * len(_GENERATORS)  # 264

_HEAD_BITS = _PROJECT_BITS + _VERSION_BITS
_OPEN = -1  # a bit of the message that the decoder does not know beforehand


def _sending_order() -> npt.NDArray[np.int64]:
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

Signs = npt.NDArray[np.float64]


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
    return _convolve(_with_check(payload.number))


def decode(soft: npt.ArrayLike, ours: bool = False) -> Decoded:
    """The most likely payload.

    Args:
        soft: [264] correlation of each code bit with what was received; the sign is the bit, the magnitude how sure
            it is, in any unit; 0 for a bit that was not received.
        ours: take for granted that it is a payload of this project and format, which leaves 48 bits to find out and
            bears a fifth more noise. The p-value of a finding then counts 2^48 payloads instead of 2^64.
    """
    values = np.asarray(soft, dtype=np.float64)
    if values.shape != (CODE_BITS,):
        raise ValueError(f"expected [{CODE_BITS}] soft values, got {values.shape}")
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    known = np.where(_IS_HEAD, _with_check(Payload(0).number), _OPEN) if ours else np.full(_STEPS, _OPEN)
    known[-_MEMORY:] = 0
    bits = _viterbi(values.reshape(_STEPS, len(_GENERATORS)), known)
    code = _convolve(bits)
    message = bits[np.argsort(_ORDER)]
    number = int("".join(map(str, message[:PAYLOAD_BITS].tolist())), 2)
    fits = bool(np.array_equal(_with_check(number), bits))
    corrected = int(np.count_nonzero(code * values < 0))
    return Decoded(Payload.from_number(number) if fits else None, corrected, code)


def _with_check(number: int) -> npt.NDArray[np.int64]:
    """[88] the message: payload and checksum in the order of sending, and the zeros that empty the encoder."""
    check = 0xFFFF
    for byte in number.to_bytes(PAYLOAD_BITS // 8, "big"):
        check ^= byte << 8
        for _ in range(8):
            check = (check << 1 ^ (0x1021 if check & 0x8000 else 0)) & 0xFFFF
    text = f"{number:0{PAYLOAD_BITS}b}{check:0{CHECK_BITS}b}{'0' * _MEMORY}"
    return np.array(list(map(int, text)))[_ORDER]


def _outputs() -> Signs:
    """[512, 3] what the encoder puts out for the newest bit (the highest) and its memory, as -1 or 1."""
    register = np.arange(2 * _STATES)[:, None, None]
    taps = register & np.array(_GENERATORS)[None, :, None]
    ones = (taps >> np.arange(_MEMORY + 1) & 1).sum(axis=2)
    return 2.0 * (ones % 2) - 1.0


_OUTPUTS = _outputs()


def _convolve(bits: npt.NDArray[np.int64]) -> Signs:
    memory, code = 0, np.empty((len(bits), len(_GENERATORS)))
    for step, bit in enumerate(bits.tolist()):
        register = bit << _MEMORY | memory
        code[step] = _OUTPUTS[register]
        memory = register >> 1
    return code.ravel()


def _viterbi(values: Signs, known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[88] the message that has the known bits and whose code word correlates best with [88, 3] values."""
    registers = np.arange(2 * _STATES).reshape(_STATES, 2)  # the two that lead to each state
    score = np.full(_STATES, -np.inf)
    score[0] = 0.0
    choices = np.empty((_STEPS, _STATES), dtype=np.int64)
    newest = np.arange(_STATES) // (_STATES // 2)
    for step, value in enumerate(values):
        reached = score[registers & (_STATES - 1)] + (_OUTPUTS @ value)[registers]
        if known[step] != _OPEN:
            reached[newest != known[step]] = -np.inf
        best = reached.argmax(axis=1)
        choices[step] = registers[np.arange(_STATES), best]
        score = reached.max(axis=1)
    bits, state = np.empty(_STEPS, dtype=np.int64), 0
    for step in range(_STEPS - 1, -1, -1):
        register = int(choices[step, state])
        bits[step] = register >> _MEMORY
        state = register & (_STATES - 1)
    return bits
