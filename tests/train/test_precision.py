"""bfloat16 gradients against float32 ones, on one batch of each network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from videoretalking.datasets.degradations import blur, degrade, recolor
from videoretalking.losses.landmarks import cut_mouths
from videoretalking.losses.sync import contrastive_sync_loss
from videoretalking.models.lnet import Painting
from videoretalking.scripts import check_precision
from videoretalking.scripts.check_precision import compare_gradients, cosines_by_group
from videoretalking.train.catalog import read_training_config
from videoretalking.train.config import TrainingConfig

DebugConfig = Callable[..., TrainingConfig]
ROOT = Path(__file__).resolve().parents[2]
LEAST = 0.99  # cosine of all gradients together, below which a shipped config stays in float32


@pytest.mark.parametrize("network", ["lnet", "enet", "wav2lip", "dnet"])
def test_gradients_keep_their_direction(debug_config: DebugConfig, network: str) -> None:
    cosines = compare_gradients(debug_config(network, "loop.accumulation=1"))
    assert cosines["all"] > LEAST and len(cosines) > 2
    assert cosines["all"] < 1.0  # the formats do differ


@pytest.mark.parametrize(
    "function",
    [
        lambda image: degrade(image, torch.tensor([70.0, 20.0]), 32, antialias=True),
        lambda image: blur(image, torch.tensor([0.5, 2.0])),
        lambda image: recolor(image, torch.eye(3, 4).expand(2, 3, 4) * 0.9),
        lambda image: cut_mouths(image, torch.linspace(0.3, 0.8, 80).view(2, 20, 2)),
        lambda image: Painting(image, image[:, :1], 3.0 * image[:, :2]).over(image, image.flip(3)),
        lambda image: contrastive_sync_loss(image.flatten(2), image.flatten(2).flip(1)),
    ],
    ids=["jpeg", "blur", "color", "mouths", "flow", "cosines"],
)
def test_autocast_rounds_neither_places_nor_levels(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    image = torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = function(image)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, function(image))


def test_cosines_are_those_of_the_groups() -> None:
    first = {"a.x": torch.tensor([1.0, 0.0]), "a.y": torch.tensor([0.0]), "b.x": torch.tensor([2.0])}
    second = {"a.x": torch.tensor([1.0, 1.0]), "a.y": torch.tensor([0.0]), "b.x": torch.tensor([2.0])}
    assert cosines_by_group(first, second, 1) == pytest.approx(
        {"a": 2**-0.5, "b": 1.0, "all": 5.0 / (5.0 * 6.0) ** 0.5}
    )
    assert set(cosines_by_group(first, second, 2)) == {"a.x", "b.x", "all"}  # a.y has no gradient


def test_the_command_prints_a_line_a_group(
    prepared_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ROOT / "configs" / "debug" / "wav2lip.yaml"
    monkeypatch.setattr(sys, "argv", ["check_precision", str(config), f"data.root={prepared_root}"])
    check_precision.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("audio_encoder") and lines[-1].startswith("all")


def test_configs_in_bfloat16_are_those_whose_gradients_agree() -> None:
    formats = {
        name: read_training_config(ROOT / "configs" / f"{name}.yaml", []).loop.precision
        for name in ("lnet", "enet", "wav2lip", "dnet", "lipsync_expert", "landmarks")
    }
    assert {name for name, precision in formats.items() if precision == "bfloat16"} == {"dnet"}
