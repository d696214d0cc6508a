"""Sync losses against values worked out by hand and the parity kit."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from videoretalking.losses.sync import (
    MIN_PROBABILITY,
    contrastive_sync_loss,
    sync_bce_loss,
    sync_loss,
    sync_probability,
)

RIGHT = torch.tensor([[1.0, 0.0]])
UP = torch.tensor([[0.0, 1.0]])
SIXTY_DEGREES = torch.tensor([[0.5, math.sqrt(0.75)]])


def test_probability_is_the_cosine() -> None:
    assert sync_probability(3.0 * RIGHT, 2.0 * SIXTY_DEGREES).item() == pytest.approx(0.5)
    assert sync_probability(RIGHT, torch.zeros(1, 2)).item() == 0.0


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        (RIGHT, 0.0),
        (SIXTY_DEGREES, math.log(2.0)),
        (UP, -math.log(MIN_PROBABILITY)),
        (-RIGHT, -math.log(MIN_PROBABILITY)),
        (torch.zeros(1, 2), -math.log(MIN_PROBABILITY)),
    ],
    ids=["parallel", "sixty degrees", "orthogonal", "opposite", "zero"],
)
def test_minus_log_of_the_clamped_cosine(video: torch.Tensor, expected: float) -> None:
    video = video.clone().requires_grad_()
    loss = sync_loss(RIGHT, video)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert video.grad is not None and torch.isfinite(video.grad).all()


def test_silent_samples_count_in_the_mean_but_not_in_the_sum() -> None:
    audio, video = torch.cat([RIGHT, RIGHT]), torch.cat([SIXTY_DEGREES, UP])
    assert sync_loss(audio, video, torch.tensor([1.0, 0.0])).item() == pytest.approx(math.log(2.0) / 2)


def test_sync_loss_pulls_the_lips_towards_the_speech() -> None:
    video = SIXTY_DEGREES.clone().requires_grad_()
    sync_loss(RIGHT, video).backward()
    assert video.grad is not None
    with torch.no_grad():
        assert sync_probability(RIGHT, video - 0.1 * video.grad) > 0.5


@pytest.mark.parametrize(
    ("video", "label", "expected"),
    [
        (SIXTY_DEGREES, 1.0, math.log(2.0)),
        (SIXTY_DEGREES, 0.0, math.log(2.0)),
        (UP, 1.0, 100.0),
        (-UP, 0.0, 0.0),
    ],
)
def test_bce_values(video: torch.Tensor, label: float, expected: float) -> None:
    assert sync_bce_loss(RIGHT, video, torch.tensor([label])).item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_values() -> None:
    same = torch.stack([SIXTY_DEGREES, SIXTY_DEGREES, SIXTY_DEGREES], dim=1)
    assert contrastive_sync_loss(same, same).item() == pytest.approx(math.log(3.0), rel=1e-5)
    decided = torch.stack([RIGHT, UP], dim=1)
    expected = math.log(1.0 + math.exp(-1.0))
    assert contrastive_sync_loss(decided, decided, temperature=1.0).item() == pytest.approx(
        expected, rel=1e-5
    )
    swapped = decided.flip(1)
    expected = math.log(1.0 + math.exp(1.0))
    assert contrastive_sync_loss(decided, swapped, temperature=1.0).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_parity_kit(kit_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from videoretalking.scripts.parity.loss_cases import CASES

    monkeypatch.syspath_prepend(str(kit_dir / "algorithms"))
    monkeypatch.delitem(sys.modules, "cases", raising=False)
    import cases

    inputs, _ = cases.load_case("sync_loss")
    results = CASES["sync_loss"](inputs)
    assert set(inputs) == set(results)
    for name, fields in results.items():
        assert fields and cases.check("sync_loss", name, fields) == []
