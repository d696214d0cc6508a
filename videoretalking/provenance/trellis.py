"""The convolutional code of the marks: its encoder, and a decoder that names code words by likelihood.

Rate 1/3, constraint length 9 (generators 557, 663 and 711, octal, free distance 18). The decoder is Viterbi's on
soft values; the second, third and further likeliest words come from the same trellis by walking back with one
deviation more (the tree-trellis algorithm of Soong and Huang, 1991).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64, Ints64

MEMORY = 8  # bits that the encoder remembers
GENERATORS = (0o557, 0o663, 0o711)
OPEN = -1  # a bit that the decoder does not know beforehand
_STATES = 1 << MEMORY


def _outputs() -> Floats64:
    """[512, 3] what the encoder puts out for the newest bit (the highest) and its memory, as -1 or 1."""
    register = np.arange(2 * _STATES)[:, None, None]
    taps = register & np.array(GENERATORS)[None, :, None]
    ones = (taps >> np.arange(MEMORY + 1) & 1).sum(axis=2)
    return 2.0 * (ones % 2) - 1.0


_OUTPUTS = _outputs()
_NEVER = -1e30  # score of what cannot be
_NEWEST = np.arange(_STATES) // (_STATES // 2)


def convolve(bits: npt.NDArray[np.int64]) -> Floats64:
    """[steps] bits -> [3 steps] code bits, -1 or 1."""
    memory, code = 0, np.empty((len(bits), len(GENERATORS)))
    for step, bit in enumerate(bits.tolist()):
        register = bit << MEMORY | memory
        code[step] = _OUTPUTS[register]
        memory = register >> 1
    return code.ravel()


class Trellis:
    """All messages that have the known bits, ready to be named in the order of their likelihood.

    Args:
        soft: [3 steps] correlation of each code bit with what was received.
        known: [steps] 0, 1 or OPEN; the last 8 are 0, which empties the encoder.
    """

    def __init__(self, soft: Floats64, known: Ints64) -> None:
        steps = len(known)
        outputs = soft.reshape(steps, len(GENERATORS)) @ _OUTPUTS.T
        score = np.full(_STATES, _NEVER)
        score[0] = 0.0
        second = np.empty((steps, _STATES), dtype=bool)
        self._losses = np.empty((steps, _STATES))
        for step, bit in enumerate(known.tolist()):
            # registers 2 s and 2 s + 1 lead to state s; their older bits are the state before
            reached = (np.concatenate([score, score]) + outputs[step]).reshape(_STATES, 2)
            if bit != OPEN:
                reached[bit != _NEWEST] = _NEVER
            first, other = reached.T
            np.greater(other, first, out=second[step])
            np.abs(first - other, out=self._losses[step])
            score = np.maximum(first, other)
        self._best = 2 * np.arange(_STATES) + second
        self.score = float(score[0])

    def likeliest(self) -> Ints64:
        """[steps] the message whose code word correlates best."""
        return self._bits(self._walk(len(self._best) - 1, 0))

    def messages(self, most_lost: float) -> Iterator[tuple[float, int]]:
        """Messages in the order of their likelihood.

        Args:
            most_lost: correlation below the best at which to stop.

        Yields:
            the correlation lost against the best, and the message as a number whose lowest bit was sent first.
        """
        best, losses = self._best.tolist(), self._losses.tolist()
        survivors = self._survivors(best)
        steps, mask = len(best), _STATES - 1
        yield 0.0, survivors[steps - 1][0]
        # lost so far; the last step at which another way may be taken, and the state there; the bits sent after it
        ways: list[tuple[float, int, int, int]] = []

        def push(lost: float, step: int, state: int, sent: int) -> None:
            """Every way that leaves the best way back from here."""
            while step >= 0:
                more = lost + losses[step][state]
                if more <= most_lost:
                    heapq.heappush(ways, (more, step, state, sent))
                register = best[step][state]
                sent |= register >> MEMORY << step
                state = register & mask
                step -= 1

        push(0.0, steps - 1, 0, 0)
        while ways:
            lost, step, state, sent = heapq.heappop(ways)
            register = best[step][state] ^ 1
            sent |= register >> MEMORY << step
            state = register & mask
            yield lost, sent | (survivors[step - 1][state] if step else 0)
            push(lost, step - 1, state, sent)

    @staticmethod
    def _survivors(best: list[list[int]]) -> list[list[int]]:
        """For each step and state the message of the best way there, as a number."""
        rows: list[list[int]] = []
        last = [0] * _STATES
        for step, registers in enumerate(best):
            last = [last[item & (_STATES - 1)] | item >> MEMORY << step for item in registers]
            rows.append(last)
        return rows

    def _walk(self, step: int, state: int) -> Iterator[int]:
        while step >= 0:
            register = int(self._best[step, state])
            yield register >> MEMORY
            state = register & (_STATES - 1)
            step -= 1

    @staticmethod
    def _bits(backwards: Iterator[int]) -> Ints64:
        return np.array(list(backwards)[::-1], dtype=np.int64)
