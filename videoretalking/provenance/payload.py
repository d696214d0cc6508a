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
_CHECK_BITS = 16
_MEMORY = 8  # bits that the encoder remembers
_STATES = 1 << _MEMORY
_GENERATORS = (0o557, 0o663, 0o711)
_STEPS = PAYLOAD_BITS + _CHECK_BITS + _MEMORY
CODE_BITS = _STEPS * len(_GENERATORS)  # 264

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


def decode(soft: npt.ArrayLike) -> Decoded:
    """The most likely payload.

    Args:
        soft: [264] correlation of each code bit with what was received; the sign is the bit, the magnitude how sure
            it is, in any unit; 0 for a bit that was not received.
    """
    values = np.asarray(soft, dtype=np.float64)
    if values.shape != (CODE_BITS,):
        raise ValueError(f"expected [{CODE_BITS}] soft values, got {values.shape}")
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    bits = _viterbi(values.reshape(_STEPS, len(_GENERATORS)))
    code = _convolve(bits)
    number = int("".join(map(str, bits[:PAYLOAD_BITS].tolist())), 2)
    fits = bool(np.array_equal(_with_check(number), bits))
    corrected = int(np.count_nonzero(code * values < 0))
    return Decoded(Payload.from_number(number) if fits else None, corrected, code)


def _with_check(number: int) -> npt.NDArray[np.int64]:
    """[88] the message: payload, checksum, and the zeros that empty the encoder."""
    check = 0xFFFF
    for byte in number.to_bytes(PAYLOAD_BITS // 8, "big"):
        check ^= byte << 8
        for _ in range(8):
            check = (check << 1 ^ (0x1021 if check & 0x8000 else 0)) & 0xFFFF
    text = f"{number:0{PAYLOAD_BITS}b}{check:0{_CHECK_BITS}b}{'0' * _MEMORY}"
    return np.array(list(map(int, text)))


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


def _viterbi(values: Signs) -> npt.NDArray[np.int64]:
    """[88] the message whose code word correlates best with [88, 3] soft values."""
    registers = np.arange(2 * _STATES).reshape(_STATES, 2)  # the two that lead to each state
    score = np.full(_STATES, -np.inf)
    score[0] = 0.0
    choices = np.empty((_STEPS, _STATES), dtype=np.int64)
    for step, value in enumerate(values):
        reached = score[registers & (_STATES - 1)] + (_OUTPUTS @ value)[registers]
        if step >= _STEPS - _MEMORY:
            reached[_STATES // 2 :] = -np.inf  # the last bits are zeros
        best = reached.argmax(axis=1)
        choices[step] = registers[np.arange(_STATES), best]
        score = reached.max(axis=1)
    bits, state = np.empty(_STEPS, dtype=np.int64), 0
    for step in range(_STEPS - 1, -1, -1):
        register = int(choices[step, state])
        bits[step] = register >> _MEMORY
        state = register & (_STATES - 1)
    return bits
