"""What the paper says of the losses and of training, on the shipped configs with tiny networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from videoretalking.datasets.base import SampleSource
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.lnet import LNetClips
from videoretalking.losses.perceptual import PerceptualLoss, StyleLoss
from videoretalking.losses.sync import sync_loss
from videoretalking.losses.total import weighted_sum
from videoretalking.models.dnet import DNetOutput
from videoretalking.models.layers.blocks import unroll_clip
from videoretalking.models.lipsync_expert import stack_lower_half
from videoretalking.models.vgg import VGG19Features
from videoretalking.train.catalog import read_training_config, step_class
from videoretalking.train.config import TrainingConfig
from videoretalking.train.frozen import load_features
from videoretalking.train.optimizer import make_optimizer

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
_EXPERT = (
    "{audio_widths: [4, 4, 4, 4, 8], audio_residual: [0, 0, 0, 0], face_widths: [4, 4, 4, 4, 8], "
    "face_residual: [0, 0, 0, 0, 0]}"
)
_LNET = (
    "{channels: 4, max_channels: 8, num_residual: 1, attention_layers: 0, audio_channels: [4, 4, 4, 4, 8], "
    "adain_hidden: 4}"
)
# Sizes that a CPU bears and stand-ins for weights; the losses, their factors and the schedule stay the paper's.
SMALL = {
    "dnet": [
        "size=64", "model.descriptor_size=8", "model.adain_hidden=4", "model.warp_channels=2",
        "model.warp_max_channels=4", "model.edit_channels=2", "model.edit_max_channels=4", "model.edit_residual=1",
    ],
    "lnet": [
        "expert.weights=random-lipsync_expert", f"expert.config={_EXPERT}", "model.channels=4",
        "model.max_channels=8", "model.num_residual=1", "model.attention_layers=1", "model.attention_heads=1",
        "model.attention_head_size=4", "model.attention_hidden=8", "model.audio_channels=[4, 4, 4, 4, 8]",
        "model.adain_hidden=4",
    ],
    "enet": [
        "expert.weights=random-lipsync_expert", f"expert.config={_EXPERT}", "lnet.weights=random-lnet",
        f"lnet.config={_LNET}", "arcface.weights=random-arcface",
        "arcface.config={widths: [4, 4, 8, 8], depths: [1, 1, 1, 1], embedding_size: 8}", "model.low_size=24",
        "model.identity_size=64", "model.identity_channels=[4, 4, 4]", "model.style_size=8",
        "model.style_channels=[4, 4]", "discriminator.widths=[4, 4, 8]",
    ],
}  # fmt: skip

PaperConfig = Callable[..., TrainingConfig]


@pytest.fixture
def paper_config(prepared_root: Path, tmp_path: Path) -> PaperConfig:
    """``paper_config("lnet")``: configs/lnet.yaml on drawn data, with tiny networks."""

    def build(name: str, *overrides: str) -> TrainingConfig:
        fixed = [f"data.root={prepared_root}", f"loop.folder={tmp_path / 'run'}", "loop.device=cpu"]
        fixed += ["perceptual.features=random-vgg19", "perceptual.config={width_multiplier: 0.0625}"]
        return read_training_config(
            ROOT / "configs" / f"{name}.yaml", [*fixed, "loop.workers=0", *SMALL[name], *overrides]
        )

    return build


def make_step(config: TrainingConfig) -> Any:
    torch.manual_seed(0)
    return step_class(config)(config, CPU)


def fixed_batch(step: Any) -> dict[str, Any]:
    dataset = step.dataset(training=False)
    batch: dict[str, Any] = default_collate([dataset[(0, index)] for index in range(2)])
    return batch


def test_dnet_warps_for_200k_steps_and_then_renders_too(paper_config: PaperConfig) -> None:
    config = paper_config("dnet")
    step = make_step(config)
    batch = fixed_batch(step)
    assert set(step.generate(step.network, batch, 0).losses) == {"warp"}
    assert set(step.generate(step.network, batch, 199_999).losses) == {"warp"}
    assert set(step.generate(step.network, batch, 200_000).losses) == {"warp", "perceptual", "style"}
    assert config.loop.steps == 400_000


def test_dnet_losses_are_equations_1_to_3_on_vgg_features(paper_config: PaperConfig) -> None:
    config = paper_config("dnet")
    step = make_step(config)
    batch = fixed_batch(step)
    image, warped = torch.rand(2, *batch["target"].shape)
    network = _Fixed(DNetOutput(torch.zeros(2, 2, 16, 16), warped, image))
    losses = step.generate(network, batch, 200_000).losses
    features = load_features(config.perceptual, CPU)
    assert isinstance(features, VGG19Features)
    perceptual, style = PerceptualLoss(features), StyleLoss(features)
    torch.testing.assert_close(losses["warp"], perceptual(warped, batch["target"]))
    torch.testing.assert_close(losses["perceptual"], perceptual(image, batch["target"]))
    torch.testing.assert_close(losses["style"], style(image, batch["target"]))
    total = weighted_sum(losses, step.loss_weights)
    torch.testing.assert_close(total, losses["warp"] + losses["perceptual"] + 250.0 * losses["style"])


def test_dnet_sees_27_coefficients_of_the_target(paper_config: PaperConfig) -> None:
    step = make_step(paper_config("dnet"))
    assert fixed_batch(step)["coefficients"].shape == (2, 73, 27)


class _Fixed(torch.nn.Module):
    """A network that has made up its mind, and keeps what it was shown."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output
        self.shown: tuple[Any, ...] = ()

    def forward(self, *inputs: Any, **_: Any) -> Any:
        self.shown = inputs
        return self.output


def test_lnet_losses_are_equation_9(paper_config: PaperConfig) -> None:
    config = paper_config("lnet")
    step = make_step(config)
    batch = fixed_batch(step)
    output, target = torch.rand(batch["target"].shape), batch["target"]
    losses = step.generate(_Fixed(output), batch, 0).losses
    assert set(losses) == {"l1", "perceptual", "sync"}
    torch.testing.assert_close(losses["l1"], (output - target).abs().mean())
    perceptual = PerceptualLoss(load_features(config.perceptual, CPU))
    torch.testing.assert_close(losses["perceptual"], perceptual(unroll_clip(output), unroll_clip(target)))
    audio, video = step.expert(batch["sync_audio"], stack_lower_half(output))
    torch.testing.assert_close(losses["sync"], sync_loss(audio, video))
    total = weighted_sum(losses, step.loss_weights)
    torch.testing.assert_close(total, losses["l1"] + losses["perceptual"] + 0.3 * losses["sync"])


def test_the_expert_is_frozen_and_only_pixels_learn_from_it(paper_config: PaperConfig) -> None:
    step = make_step(paper_config("lnet"))
    assert not step.expert.training
    assert not any(parameter.requires_grad for parameter in step.expert.parameters())
    batch = fixed_batch(step)
    output = torch.rand(batch["target"].shape, requires_grad=True)
    step.generate(_Fixed(output), batch, 0).losses["sync"].backward()
    assert output.grad is not None and output.grad[..., 48:, :].abs().sum() > 0
    assert (output.grad[..., :48, :] == 0).all()  # it judges the lower half of five frames


def test_lnet_is_fed_five_frames_with_five_random_references(paper_config: PaperConfig) -> None:
    step = make_step(paper_config("lnet"))
    network = _Fixed(torch.rand(2, 3, 5, 96, 96))
    step.generate(network, fixed_batch(step), 0)
    audio, faces = network.shown[:2]
    assert faces.shape == (2, 6, 5, 96, 96) and audio.shape == (2, 5, 1, 80, 16)


def test_references_are_drawn_from_the_whole_clip_one_by_one(prepared_root: Path) -> None:
    dataset = LNetClips(SampleSource(DataConfig(str(prepared_root))))
    length = len(dataset.clips.clip(0))
    drawn = np.array(
        [dataset.draw_references(0, range(5), np.random.default_rng(seed))[0] for seed in range(400)]
    )
    assert drawn.shape == (400, 5)
    assert all(set(column) == set(range(length)) for column in drawn.T)
    assert abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 0.2  # independent of each other


def test_enet_losses_are_equation_14_and_the_sync_of_the_text(paper_config: PaperConfig) -> None:
    config = paper_config("enet", "targets=original")
    step = make_step(config)
    batch = fixed_batch(step)
    target = unroll_clip(batch["target"])
    output = torch.rand(target.shape)
    losses = step.generate(_Fixed(output), batch, 0).losses
    assert set(losses) == {"l1", "perceptual", "adversarial", "identity", "sync"}
    torch.testing.assert_close(losses["l1"], (output - target).abs().mean())
    perceptual = PerceptualLoss(load_features(config.perceptual, CPU))
    torch.testing.assert_close(losses["perceptual"], perceptual(output, target))
    scores = torch.sigmoid(step.discriminator(output))
    torch.testing.assert_close(losses["adversarial"], -torch.log(scores).mean(), rtol=1e-4, atol=1e-5)
    factors = {"l1": 0.2, "perceptual": 1.0, "adversarial": 100.0, "identity": 0.4, "sync": 0.3}
    assert step.loss_weights == factors
    printed = make_step(paper_config("enet", "targets=original", "loss_weights.sync=0"))
    assert set(printed.generate(_Fixed(output), batch, 0).losses) == set(factors) - {"sync"}


def test_the_discriminator_is_shown_targets_as_real(paper_config: PaperConfig) -> None:
    """Equation 13 prints D(O_HR) where the score of a real image is meant."""
    step = make_step(paper_config("enet", "targets=original"))
    batch = fixed_batch(step)
    output = torch.rand(unroll_clip(batch["target"]).shape, requires_grad=True)
    made = step.generate(_Fixed(output), batch, 0)
    torch.testing.assert_close(made.real, unroll_clip(batch["target"]))
    judge = _Judge()
    step.discriminate(judge, made, 0)
    torch.testing.assert_close(judge.seen[0], made.real)
    torch.testing.assert_close(judge.seen[1], output)
    assert not judge.seen[1].requires_grad


class _Judge(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(image)
        return image.mean(dim=(1, 2, 3))


def test_enet_trains_through_a_frozen_lnet(paper_config: PaperConfig) -> None:
    step = make_step(paper_config("enet", "targets=original"))
    assert not step.lnet.training
    assert not any(parameter.requires_grad for parameter in step.lnet.parameters())
    network = _Fixed(torch.rand(10, 3, 96, 96))
    step.generate(network, fixed_batch(step), 0)
    low_res, reference = network.shown[:2]
    assert low_res.shape == (10, 3, 24, 24) and not low_res.requires_grad
    assert reference.shape == (10, 3, 96, 96)


@pytest.mark.parametrize(("name", "rate"), [("dnet", 1e-4), ("lnet", 1e-4), ("enet", 1e-5)])
def test_adam_trains_at_the_papers_rate(paper_config: PaperConfig, name: str, rate: float) -> None:
    config = paper_config(name)
    optimizer = make_optimizer(torch.nn.Linear(1, 1), config.optimizer)
    assert type(optimizer) is torch.optim.Adam
    assert [group["lr"] for group in optimizer.param_groups] == [rate]
    assert config.optimizer.decay == "constant"
