"""Algorithm cases: inputs recorded from the published programs, answered by our functions.

A kit's ``algorithms`` folder brings its own reader and tolerances (``cases.py``) beside the data; the small copy in
``tests/data/parity`` is read by :mod:`scripts.parity.cases`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from videoretalking.core.errors import UserError
from videoretalking.scripts.parity import (
    audio_cases,
    blend_cases,
    core_cases,
    face_cases,
    loss_cases,
    metric_cases,
)
from videoretalking.scripts.parity.cases import TOLERANCES, CaseFolder

Answers = dict[str, dict[str, Any]]

# Case -> function from the case's inputs to our answers, both {sub-case: {field: value}}.
CASES: Mapping[str, Callable[..., Answers]] = {
    **core_cases.CASES,
    **audio_cases.CASES,
    **face_cases.CASES,
    **blend_cases.CASES,
    **metric_cases.CASES,
    **loss_cases.CASES,
}


class CaseReader(Protocol):
    """What reads a folder of cases."""

    @property
    def CASES(self) -> Sequence[str]:  # noqa: N802 (the name that a kit's reader has)
        """Names of the cases."""

    def load_case(self, name: str) -> tuple[Answers, Answers]:
        """Inputs and expected values, both {sub-case: {field: value}}."""

    def check(self, case: str, sub: str, answers: Mapping[str, Any]) -> list[str]:
        """Complaints about answers to a sub-case."""


def load_reader(folder: Path) -> CaseReader:
    """The kit's own reader of its cases, or ours of a folder that holds data only.

    Raises:
        UserError: the folder holds neither ``cases.py`` nor ``tolerances.json``.
    """
    if (folder / TOLERANCES).is_file():
        return CaseFolder(folder)
    path = folder / "cases.py"
    spec = importlib.util.spec_from_file_location("parity_cases", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"parity kit: {folder} holds neither cases.py nor {TOLERANCES}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(CaseReader, module)


def complaints(reader: CaseReader, case: str) -> list[str]:
    """What is wrong with our answers to one case; empty when every expected field agrees.

    Args:
        reader: result of :func:`load_reader`.
        case: a name in ``reader.CASES`` and in :data:`CASES`.
    """
    inputs, expected = reader.load_case(case)
    answers = CASES[case](inputs)
    found = []
    for sub, fields in expected.items():
        given = answers.get(sub, {})
        found += [f"{sub}/{field}: no answer" for field in fields if field not in given]
        common = {field: value for field, value in given.items() if field in fields}
        found += [f"{sub}/{complaint}" for complaint in reader.check(case, sub, common)]
    return found
