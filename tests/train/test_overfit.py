"""Every network overfits a small batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import default_collate

from videoretalking.core.coefficients import motion_rows
from videoretalking.core.errors import UserError
from videoretalking.datasets.dnet import DNetPairs
from videoretalking.losses.total import weighted_sum
from videoretalking.models.catalog import save_network
from videoretalking.models.dnet import DNet
from videoretalking.models.landmarks import LandmarkNet, LandmarkNetConfig
from videoretalking.models.layers.blocks import unroll_clip
from videoretalking.train.catalog import step_class
from videoretalking.train.config import FrozenConfig, TrainingConfig
from videoretalking.train.frozen import load_recognizer
from videoretalking.train.small_data.enet import ENetSmallDataStep
from videoretalking.train.small_data.lnet import mouth_mask
from videoretalking.train.steps.base import Step
from videoretalking.train.steps.talking import paint

DebugConfig = Callable[..., TrainingConfig]
CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
FULL_STAGE = 1_000_000  # a step behind D-Net's warping stage


def make_step(config: TrainingConfig) -> Step:
    torch.manual_seed(0)
    return step_class(config)(config, CPU)


def fixed_batch(step: Step, count: int = 2) -> dict[str, Any]:
    dataset = step.dataset(training=False)
    batch: dict[str, Any] = default_collate([dataset[(0, index)] for index in range(count)])
    return batch


def first_frames(batch: dict[str, Any]) -> dict[str, Any]:
    """One frame of each clip instead of five: L-Net and Wav2Lip see frames one by one."""
    images = {name: batch[name][:, :, :1] for name in ("frame", "reference", "target")}
    frames = {
        name: batch[name][:, :1] for name in ("audio", "target_points", "reference_points") if name in batch
    }
    return batch | images | frames


def overfit(step: Step, batch: dict[str, Any], most_steps: int, lr: float, factor: float = 5.0) -> None:
    """Train until the total loss has fallen by a factor; fail after ``most_steps``."""
    optimizer = torch.optim.Adam(step.network.parameters(), lr=lr)
    first = None
    for _ in range(most_steps):
        total = weighted_sum(step.generate(step.network, batch, FULL_STAGE).losses, step.loss_weights)
        first = first or total.item()
        if total.item() < first / factor:
            return
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    pytest.fail(f"the loss only fell from {first} to {total.item()} within {most_steps} steps")


def test_dnet(debug_config: DebugConfig) -> None:
    step = make_step(debug_config("dnet"))
    overfit(step, fixed_batch(step), most_steps=60, lr=5e-3)


def test_dnet_standardizes_by_its_training_data(debug_config: DebugConfig) -> None:
    step = make_step(debug_config("dnet"))
    mapping = cast(DNet, step.network).mapping
    dataset = cast(DNetPairs, step.dataset(training=True))
    rows = np.concatenate([motion_rows(dataset.clips.clip(index).rows) for index in range(len(dataset))])
    seen = (torch.from_numpy(rows).T - mapping.center) / mapping.scale
    moving = torch.from_numpy(rows.std(axis=0) > 1e-3)
    assert moving.any()
    torch.testing.assert_close(seen.mean(dim=1)[moving], torch.zeros(int(moving.sum())), atol=1e-2, rtol=0.0)
    torch.testing.assert_close(seen[moving].std(dim=1), torch.ones(int(moving.sum())), atol=2e-2, rtol=0.0)


def test_lnet(debug_config: DebugConfig) -> None:
    # a random expert cannot be satisfied by any lips
    step = make_step(debug_config("lnet", "loss_weights.sync=0", "loss_weights.adversarial=0"))
    overfit(step, first_frames(fixed_batch(step)), most_steps=120, lr=5e-3)


def test_enet(debug_config: DebugConfig) -> None:
    step = make_step(
        debug_config("enet", "loss_weights.adversarial=0", "loss_weights.sync=0", "num_frames=1")
    )
    # "Ideally, L-Net should produce the same lip motions" (section 3.3); a random one produces nothing
    step.lnet = lambda audio, faces: faces[:, 3:]  # type: ignore[attr-defined]
    # a fresh E-Net nearly shows its input already, and detail of 96 pixels does not follow from 24
    overfit(step, fixed_batch(step), most_steps=60, lr=3e-3, factor=3.0)


def test_lipsync_expert(debug_config: DebugConfig) -> None:
    absent = [f"loss_weights.{name}=0" for name in ("contrastive", "mouth", "imitation", "gestures")]
    step = make_step(debug_config("lipsync_expert", *absent, "mouth_steps=0"))
    batch = fixed_batch(step)
    assert step.generate(step.network, batch, 0).losses["bce"] > 0.45
    overfit(step, batch, most_steps=60, lr=3e-3)
    assert step.generate(step.network, batch, 0).metrics["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_windows=1", "set num_windows=2"),
        ("loss_weights.mouth=0", "mouth_steps needs a weight"),
        ("loss_weights.mouth=0 mouth_steps=0", "go with the mouth"),
    ],
)
def test_expert_settings_that_cannot_work(debug_config: DebugConfig, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_step(debug_config("lipsync_expert", *override.split()))


def test_lipsync_expert_learns_from_landmarks(debug_config: DebugConfig) -> None:
    step = make_step(
        debug_config("lipsync_expert", "loss_weights.bce=0", "loss_weights.contrastive=0", "mouth_steps=0")
    )
    batch = fixed_batch(step)
    optimizer = torch.optim.Adam(step.network.parameters(), lr=3e-3)
    for _ in range(130):
        total = weighted_sum(step.generate(step.network, batch, FULL_STAGE).losses, step.loss_weights)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    end = step.generate(step.network.eval(), batch, 0)  # without dropout
    assert max(end.losses["mouth"], end.losses["imitation"]) < 0.2 * math.log(3)  # ln 3 when undecided
    assert end.metrics["mouth_accuracy"] == 1.0
    # the pictures were never compared with the speech, yet they find it: through the landmarks alone
    assert end.metrics["accuracy"] == 1.0


def test_lipsync_expert_learns_speech_before_pictures(debug_config: DebugConfig) -> None:
    step = make_step(debug_config("lipsync_expert", "mouth_steps=2"))
    for number, moved in ((1, "audio"), (2, "face")):
        output = step.generate(step.network.train(), fixed_batch(step), number)
        step.network.zero_grad()
        losses = {name: loss for name, loss in output.losses.items() if name != "gestures"}
        weighted_sum(losses, step.loss_weights).backward()
        encoders = {name: getattr(step.network.expert, f"{name}_encoder") for name in ("audio", "face")}
        for name, encoder in encoders.items():
            assert (next(encoder.parameters()).grad is not None) == (name == moved)


def test_wav2lip(debug_config: DebugConfig) -> None:
    step = make_step(debug_config("wav2lip", "loss_weights.adversarial=0"))
    overfit(step, first_frames(fixed_batch(step)), most_steps=60, lr=5e-3)


def test_landmarks(debug_config: DebugConfig) -> None:
    step = make_step(debug_config("landmarks", "negatives=0"))
    overfit(step, fixed_batch(step), most_steps=80, lr=1e-2)


@pytest.mark.parametrize(
    ("name", "most_steps", "lr"), [("enet", 20, 1e-2), ("wav2lip", 120, 1e-3), ("lnet", 60, 1e-2)]
)
def test_the_discriminator_learns_to_tell(
    debug_config: DebugConfig, name: str, most_steps: int, lr: float
) -> None:
    step = make_step(debug_config(name))
    assert step.discriminator is not None
    output = step.generate(step.network, fixed_batch(step), FULL_STAGE)
    optimizer = torch.optim.Adam(step.discriminator.parameters(), lr=lr)
    first = None
    for _ in range(most_steps):
        loss = step.discriminate(step.discriminator, output, 0)["discriminator"]
        first = first or loss.item()
        if loss.item() < 0.5 * first:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    else:
        pytest.fail(f"the loss only fell from {first} to {loss.item()}")
    # the generator is left alone
    assert all(parameter.grad is None for parameter in step.network.parameters())


def test_losses_on_lips_need_the_landmarks(debug_config: DebugConfig) -> None:
    with pytest.raises(UserError, match="set loss_weights"):
        make_step(debug_config("lnet", "loss_weights.landmarks=0"))
    absent = [
        f"loss_weights.{name}=0"
        for name in ("landmarks", "movement", "opening", "mouth", "change", "adversarial")
    ]
    with pytest.raises(UserError, match="or judge_limit=0"):
        make_step(debug_config("lnet", *absent))
    make_step(debug_config("lnet", *absent, "judge_limit=0"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.warp_reference=false"], "set model.warp_reference"),
        (["model.warp_reference=false", "loss_weights.flow=0"], "set model.warp_reference"),
        (["loss_weights.flow=0"], "flow_variation goes with the flow"),
        (["model.warp_reference=false", "model.blend_reference=false", "loss_weights.flow=0",
          "loss_weights.flow_variation=0"], "set model.blend_reference"),
    ],
)  # fmt: skip
def test_losses_on_flow_and_share_need_them(
    debug_config: DebugConfig, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_step(debug_config("lnet", *overrides))


def test_share_and_flow_learn_from_landmarks_alone(debug_config: DebugConfig) -> None:
    names = ("l1", "perceptual", "sync", "landmarks", "movement", "opening", "mouth", "change", "adversarial")
    absent = [*(f"loss_weights.{name}=0" for name in names), "judge_limit=0"]
    step = make_step(debug_config("lnet", *absent, "loss_weights.flow=1", "align_references=false"))
    batch = first_frames(fixed_batch(step))
    before = step.generate(step.network, batch, 0).losses
    optimizer = torch.optim.Adam(step.network.parameters(), lr=1e-2)
    for _ in range(60):
        total = weighted_sum(step.generate(step.network, batch, 0).losses, step.loss_weights)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    after = step.generate(step.network, batch, 0).losses
    assert after["flow"] < 0.5 * before["flow"] and after["share"] < 0.3 * before["share"]


def judge_gradients(step: Step, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Gradient on the output [B, 3, T, 96, 96] of the weighted pixel loss and of what each judge adds."""
    shown: list[torch.Tensor] = []

    def network(audio: torch.Tensor, faces: torch.Tensor, parts: bool) -> Any:
        image, painting = step.network(audio, faces, parts=parts)
        shown.append(image)
        return image, painting

    network.training = True  # type: ignore[attr-defined]
    losses = step.generate(cast(torch.nn.Module, network), batch, FULL_STAGE).losses
    groups = {"pixels": ["l1"], "expert": ["sync"], "landmarks": ["landmarks", "movement", "opening"]}
    return {
        group: torch.autograd.grad(
            weighted_sum({name: losses[name] for name in names}, step.loss_weights),
            shown[0],
            retain_graph=True,
        )[0]
        for group, names in groups.items()
    }


def test_no_judge_outvotes_the_pixels(debug_config: DebugConfig) -> None:
    """On a fixed batch no judge's gradient on the mouth is above ten times the pixels', and none has color."""
    heavy = ["loss_weights.movement=3000", "loss_weights.sync=3000", "loss_weights.mouth=0", "silence=0"]
    bundled = {
        judge: FrozenConfig(str(ROOT / "checkpoints" / "demo" / f"{network}.safetensors"))
        for judge, network in (("expert", "lipsync_expert"), ("landmarks", "landmarks"))
    }
    free, limited = (
        make_step(dataclasses.replace(debug_config("lnet", *heavy, *options), **bundled))
        for options in (["judge_limit=0", "gray_judges=false"], ["judge_limit=10"])
    )
    batch = fixed_batch(free)
    mask = mouth_mask(cast(Any, free).landmarks.find(unroll_clip(batch["target"])), batch["target"])

    def strengths(gradients: dict[str, torch.Tensor]) -> dict[str, float]:
        return {name: float((gradient.abs() * mask).sum()) for name, gradient in gradients.items()}

    before, after = judge_gradients(free, batch), judge_gradients(limited, batch)
    strong, weak = strengths(before), strengths(after)
    for judge in ("expert", "landmarks"):
        assert strong[judge] > 20 * strong["pixels"]
        assert weak[judge] == pytest.approx(10 * weak["pixels"], rel=1e-3)
        color = after[judge] - after[judge].mean(dim=1, keepdim=True)
        assert color.abs().max() <= 1e-6 * after[judge].abs().max()
        assert (before[judge] - before[judge].mean(dim=1, keepdim=True)).abs().max() > 0


@pytest.mark.parametrize("name", ["lnet", "wav2lip"])
def test_the_step_hides_the_lower_half(debug_config: DebugConfig, name: str) -> None:
    step = make_step(debug_config(name))
    batch = fixed_batch(step)
    seen: list[torch.Tensor] = []

    def network(audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        seen.append(faces)
        return faces[:, 3:]

    paint(cast(torch.nn.Module, network), batch)
    (faces,) = seen
    assert faces.shape == (2, 6, 5, 96, 96) and (faces[:, :3, :, 48:] == 0).all()
    assert torch.equal(faces[:, :3, :, :48], batch["frame"][..., :48, :])
    assert torch.equal(faces[:, 3:], batch["reference"])
    assert (batch["frame"][..., 48:, :] != 0).any()


def test_the_sync_loss_reaches_lnet(debug_config: DebugConfig) -> None:
    step = make_step(
        debug_config(
            "lnet",
            "loss_weights.l1=0",
            "loss_weights.perceptual=0",
            "loss_weights.landmarks=0",
            "loss_weights.movement=0",
            "loss_weights.mouth=0",
            "loss_weights.change=0",
            "loss_weights.opening=0",
            "loss_weights.flow=0",
            "loss_weights.flow_variation=0",
            "loss_weights.share=0",
            "loss_weights.adversarial=0",
            "judge_limit=0",
            "silence=1.0",
        )
    )
    spoken = fixed_batch(step)
    for speech, moves in ((1.0, True), (0.0, False)):
        step.network.zero_grad()
        batch = spoken | {"speech": torch.full((2,), speech)}
        weighted_sum(step.generate(step.network, batch, 0).losses, step.loss_weights).backward()
        gradients = [p.grad.abs().sum() for p in step.network.parameters() if p.grad is not None]
        assert bool(torch.stack(gradients).sum() > 0) == moves


@pytest.mark.parametrize("override", ["loop.validate_every=0", "data.val_split=''"])
def test_a_gate_that_no_validation_opens_is_named(
    debug_config: DebugConfig, caplog: pytest.LogCaptureFixture, override: str
) -> None:
    make_step(debug_config("wav2lip", override))
    assert "the sync loss will never count" in caplog.text
    caplog.clear()
    make_step(debug_config("wav2lip"))
    make_step(debug_config("wav2lip", override, "loss_weights.sync=0"))
    assert not caplog.text


def test_wav2lip_opens_its_gate_once(debug_config: DebugConfig) -> None:
    step = make_step(debug_config("wav2lip"))
    assert step.loss_weights["sync"] == 0.0
    step.after_validation({"sync": 0.8})
    assert step.loss_weights["sync"] == 0.0 and step.state_dict()["gate_open"] is False
    step.after_validation({"sync": 0.7})
    step.after_validation({"sync": 0.9})
    assert step.loss_weights["sync"] == 0.03
    restored = make_step(debug_config("wav2lip"))
    restored.load_state_dict(step.state_dict())
    assert restored.loss_weights["sync"] == 0.03


def test_enet_input_went_through_degradation_and_lnet(debug_config: DebugConfig, tmp_path: Path) -> None:
    step = make_step(
        debug_config("enet", "loss_weights.adversarial=0", "loss_weights.sync=0", "num_frames=2")
    )
    seen: list[torch.Tensor] = []

    def lnet(audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        seen.append(faces)
        return faces[:, 3:]

    step.lnet = lnet  # type: ignore[attr-defined]
    batch = fixed_batch(step) | {"jpeg_quality": torch.tensor([0.0, 10.0])}
    step.generate(step.network, batch, 0)
    (faces,) = seen
    assert faces.shape == (4, 6, 24, 24)  # two clips of two frames, time-major
    assert (faces[:, :3, 12:] == 0).all() and (faces[:, :3, :12] == faces[:, 3:, :12]).all()
    plain = torch.nn.functional.interpolate(batch["target"][:, :, 1], size=24, mode="bilinear")
    errors = (faces[2:, 3:] - plain).abs().mean(dim=(1, 2, 3))  # second frame of both clips
    assert errors[0] < 1e-6 < 0.01 < errors[1]


def test_enet_trains_on_fresh_noise_and_runs_on_fixed_maps(debug_config: DebugConfig) -> None:
    step = make_step(
        debug_config("enet", "loss_weights.adversarial=0", "loss_weights.sync=0", "num_frames=2")
    )
    given: list[torch.Tensor | None] = []

    class Listening(torch.nn.Module):
        def forward(
            self, low_res: torch.Tensor, reference: torch.Tensor, seeds: torch.Tensor | None
        ) -> torch.Tensor:
            given.append(seeds)
            return torch.nn.functional.interpolate(low_res, scale_factor=4.0)

    network, batch = Listening(), fixed_batch(step)
    step.generate(network, batch, 0)
    step.generate(network.eval(), batch, 0)
    seeds, none = given
    assert none is None and seeds is not None
    assert seeds.tolist() == [
        seed for pair in zip(*batch["noise_seeds"].tolist(), strict=True) for seed in pair
    ]


def small_enet(debug_config: DebugConfig, *overrides: str) -> ENetSmallDataStep:
    config = debug_config("enet", "step=enet_small_data", "loss_weights.sync=0", "num_frames=1", *overrides)
    step = make_step(config)
    assert isinstance(step, ENetSmallDataStep)
    return step


def test_enet_on_stills_goes_around_lnet(debug_config: DebugConfig) -> None:
    step = small_enet(debug_config, "targets=original", "cast=0.5", "blur=1")
    step.lnet = lambda audio, faces: torch.ones_like(faces[:, 3:])  # type: ignore[assignment]
    batch = fixed_batch(step)
    batch |= {"speech": torch.tensor([0.0, 1.0]), "jpeg_quality": torch.zeros(2)}
    identity = torch.eye(3, 4).repeat(2, 1, 1)
    plain = batch | {"blur": torch.zeros(2), "cast": identity}
    still, clip = step.make_input(plain)
    assert (clip == 1.0).all()
    torch.testing.assert_close(still, step.degrade(batch)[0])
    blurred = step.make_input(plain | {"blur": torch.tensor([1.0, 1.0])})[0]
    assert blurred.std() < still.std() and blurred.mean().item() == pytest.approx(
        still.mean().item(), abs=0.01
    )
    brighter = identity + torch.tensor([0.0, 0.0, 0.0, 0.1])
    torch.testing.assert_close(
        step.make_input(plain | {"cast": brighter})[0], (still + 0.1).clamp(0, 1), atol=1e-6, rtol=0
    )


def test_enet_is_told_apart_what_another_picture_makes_of_a_face(debug_config: DebugConfig) -> None:
    """Nothing where the own picture serves better by the margin, all of it where both serve alike."""
    step = small_enet(debug_config, "targets=original", "contrast=1", "contrast_margin=0.5", "detail=1")
    batch = fixed_batch(step)
    whole = batch["target"][:, :, 0]
    first, second = batch["reference"][:, :, 0].mean(dim=(1, 2, 3))
    assert first != second

    def enhance(harm: float) -> Callable[..., torch.Tensor]:
        """Harm done to a face under the picture of the other one."""

        def run(low: torch.Tensor, reference: torch.Tensor, seeds: object) -> torch.Tensor:
            own = torch.isclose(reference.mean(dim=(1, 2, 3)), torch.stack([first, second]))
            return whole + 0.1 + harm * (~own).float()[:, None, None, None]

        return run

    low = step.make_input(batch)

    def losses(harm: float) -> dict[str, torch.Tensor]:
        network = enhance(harm)
        own = network(low, batch["reference"][:, :, 0], None)
        return step.compare_people(network, low, None, batch, own, whole)  # type: ignore[arg-type]

    assert losses(0.0)["contrast"].item() == pytest.approx(0.5, abs=1e-4)
    assert losses(0.01)["contrast"].item() == 0.0  # 0.8 dB
    assert losses(0.0)["detail"].item() == pytest.approx(0.0, abs=1e-4)
    soft = F.avg_pool2d(whole, 5, stride=1, padding=2)
    blurred = step.compare_people(enhance(0.0), low, None, batch, soft, whole)  # type: ignore[arg-type]
    assert blurred["detail"].item() > 0.3
    plain = small_enet(debug_config, "targets=original")
    assert plain.compare_people(enhance(0.0), low, None, batch, soft, whole) == {}  # type: ignore[arg-type]


def test_enet_may_learn_people_alone(debug_config: DebugConfig) -> None:
    step = small_enet(debug_config, "identity_only=true")
    trained = {name for name, weight in step.network.named_parameters() if weight.requires_grad}
    everything = {name for name, _ in step.network.named_parameters()}
    assert trained == {
        name for name in everything if name.startswith("identity_encoder.") or ".modulation." in name
    }
    assert "to_rgbs.0.conv.weight" in everything - trained


def test_enet_computes_parts_and_judges_whole_faces(debug_config: DebugConfig) -> None:
    step = small_enet(debug_config, "part_size=16", "whole_every=3", "adversarial_from=1")
    batch = fixed_batch(step)
    outputs = [step.generate(step.network, batch, index) for index in range(4)]
    sides = [output.real.shape[-1] for output in outputs if output.real is not None]
    assert sides == [96, 64, 64, 96]
    assert [("identity" in output.losses, "adversarial" in output.losses) for output in outputs] == [
        (True, False),
        (False, True),
        (False, True),
        (True, True),
    ]
    low_res, target = step.make_input(batch), batch["target"][:, :, 0]
    part, wanted = step.choose_part(
        batch | {"part": torch.tensor([[1.0, 0.5]] * 2)}, low_res, target, True, 1
    )
    torch.testing.assert_close(part, low_res[..., 4:20, 8:24])
    torch.testing.assert_close(wanted, target[..., 16:80, 32:96])
    whole = step.choose_part(batch, low_res, target, False, 1)
    assert whole[0].shape[-1] == 24  # validation computes all


@pytest.mark.parametrize("step", ["", "step=enet_small_data"])
def test_the_sync_loss_of_enet_takes_five_frames(debug_config: DebugConfig, step: str) -> None:
    with pytest.raises(UserError, match=r"num_frames is 2, .* set num_frames=5, or loss_weights.sync=0"):
        debug_config("enet", *filter(None, [step]), "num_frames=2")


def test_enet_hears_whole_faces_that_speak(debug_config: DebugConfig) -> None:
    options = ["step=enet_small_data", "loss_weights.adversarial=0", "loss_weights.identity=0"]
    step = make_step(
        debug_config("enet", *options, "num_frames=5", "part_size=16", "whole_every=2", "targets=original")
    )
    batch = fixed_batch(step)
    whole, part = (step.generate(step.network, batch, index).losses for index in (0, 1))
    assert whole["sync"] > 0.0 and "sync" not in part
    silent = step.generate(step.network, batch | {"speech": torch.zeros(2)}, 0)
    assert silent.losses["sync"] == 0.0


def test_a_recognizer_has_to_recognize(tmp_path: Path) -> None:
    path = tmp_path / "landmarks.safetensors"
    save_network(path, LandmarkNet(LandmarkNetConfig(width_multiplier=0.125)), "test")
    with pytest.raises(UserError, match="holds LandmarkNet, which recognizes no faces"):
        load_recognizer(FrozenConfig(str(path)), torch.device("cpu"))
    small = {"widths": [4, 4, 8, 8], "depths": [1, 1, 1, 1], "embedding_size": 16}
    random = load_recognizer(FrozenConfig("random-arcface", small), torch.device("cpu"))
    assert random(torch.rand(1, 3, 112, 112)).shape == (1, 16)


@pytest.mark.parametrize("gray", [True, False])
def test_wav2lips_expert_can_be_shown_no_color(debug_config: DebugConfig, gray: bool) -> None:
    step = make_step(debug_config("wav2lip", "step=wav2lip_small_data", f"gray_judges={str(gray).lower()}"))
    batch = fixed_batch(step)
    output = step.generate(step.network.eval(), batch, 0)
    assert output.fake is not None
    (gradient,) = torch.autograd.grad(output.losses["sync"], output.fake)
    assert gradient.abs().max() > 0
    assert torch.equal(gradient[:, 0], gradient[:, 2]) == gray
