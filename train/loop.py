"""The one training loop: every network, with or without an adversary, in one or many processes."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from videoretalking.core.config import to_dict
from videoretalking.core.devices import DTYPES, autocast
from videoretalking.core.distributed import (
    World,
    average_over_world,
    join_world,
    share_batch_norm,
    wrap_network,
)
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.datasets.base import ClipDataset
from videoretalking.losses.total import require_finite, weighted_sum
from videoretalking.models.catalog import load_network, save_network
from videoretalking.train.board import Board
from videoretalking.train.catalog import step_class
from videoretalking.train.config import TrainingConfig
from videoretalking.train.optimizer import gradient_norm, make_optimizer, set_learning_rate
from videoretalking.train.samples import TrainKeys, ValidationKeys, make_loader, step_seed, to_device
from videoretalking.train.state import hold_folder, load_state, save_state
from videoretalking.train.steps.base import Step

logger = logging.getLogger(__name__)


def train(config: TrainingConfig) -> None:
    """Train, or continue the run found in ``config.loop.folder``.

    Args:
        config: one of the configs in :data:`train.catalog.STEPS`.

    Raises:
        UserError: missing data or weights, a batch that cannot be split, a loss that is not finite, another
            process that trains in this folder.
    """
    with join_world(config.loop.device) as world:
        alone = hold_folder(Path(config.loop.folder)) if world.is_main else contextlib.nullcontext()
        with alone:
            _train(config, world)


def _train(config: TrainingConfig, world: World) -> None:
    loop = config.loop
    folder = Path(loop.folder)
    dtype = DTYPES[loop.precision]

    # Networks. The same seed everywhere, so all processes start from the same weights.
    torch.manual_seed(loop.seed)
    task = step_class(config)(config, world.device)
    if loop.init:
        initial = load_network(loop.init, expected=config.network, device=world.device, fold=False)
        _start_from(initial, task.exported(task.network), loop.init)
    if loop.share_batch_norm:
        share_batch_norm(task.network, world)
    generator, discriminator = task.network, task.discriminator
    if loop.channels_last:
        for network in (generator, discriminator):
            if network is not None:
                network.to(memory_format=torch.channels_last)
    average = _moving_average(generator, loop.ema_decay)
    generator_optimizer = make_optimizer(generator, config.optimizer)
    discriminator_optimizer = (
        make_optimizer(discriminator, task.discriminator_optimizer()) if discriminator is not None else None
    )
    scaler = torch.amp.GradScaler(world.device.type, enabled=dtype == torch.float16)

    # State. Everything random is re-seeded per step, so the step number is the whole random state.
    parts: dict[str, Any] = {
        "generator": generator,
        "generator_optimizer": generator_optimizer,
        "discriminator": discriminator,
        "discriminator_optimizer": discriminator_optimizer,
        "average": average,
        "scaler": scaler,
        "task": task,
    }
    settings = to_dict(config)
    first_step = load_state(folder, parts, settings)
    generator_parallel = wrap_network(generator, world, task.has_unused_parameters)
    discriminator_parallel = wrap_network(discriminator, world) if discriminator is not None else None

    # Data.
    train_set = task.dataset(training=True)
    keys = TrainKeys(len(train_set), loop, world, first_step)
    batches = iter(make_loader(train_set, keys, loop.workers, world.device))
    val_set = task.dataset(training=False) if config.data.val_split and loop.validate_every else None

    board = None
    if world.is_main:
        _write_config(folder, settings)
        board = Board(folder / "events", first_step)
        parameters = sum(parameter.numel() for parameter in generator.parameters())
        logger.info(
            "%s: %d clips, %.2f million parameters, %s on %s, %d process(es), step %d to %d in %s",
            *(config.network, len(train_set), parameters / 1e6, loop.precision, world.device),
            *(world.size, first_step, loop.steps, folder),
        )
    figures: dict[str, float] = {}
    clock, clock_step = time.monotonic(), first_step

    for step in range(first_step, loop.steps):
        torch.manual_seed(step_seed(loop.seed, step, world.rank))
        micro_batches = [to_device(next(batches), world.device) for _ in range(loop.accumulation)]
        clips = [clip for batch in micro_batches for clip in batch["clip"]]
        logged: dict[str, float] = {}
        generator.train()
        if discriminator is not None:
            discriminator.train()

        # Generator (the network itself where there is no adversary).
        logged["lr"] = set_learning_rate(generator_optimizer, config.optimizer, step, loop.steps)
        generator_optimizer.zero_grad()
        outputs = []
        if discriminator is not None:
            discriminator.requires_grad_(False)
        for batch, synchronize in _micro_steps(micro_batches, generator_parallel):
            with synchronize:
                with autocast(world.device, dtype):
                    output = task.generate(generator_parallel, batch, step)
                total = weighted_sum(output.losses, task.loss_weights)
                _record(logged, {**output.losses, **output.metrics, "total": total}, loop.accumulation)
                require_finite(output.losses, step, clips)
                scaler.scale(total / loop.accumulation).backward()
            outputs.append(output)
        scaler.unscale_(generator_optimizer)
        logged["gradient_norm"] = gradient_norm(generator, config.optimizer.clip_norm)
        if not scaler.is_enabled():  # the scaler skips such steps by itself and lowers its scale
            require_finite({"gradient": logged["gradient_norm"]}, step, clips)

        # Discriminator, on the same images.
        adversarial = step >= task.first_adversarial_step
        if adversarial and discriminator is not None and discriminator_parallel is not None:
            assert discriminator_optimizer is not None
            settings_d = task.discriminator_optimizer()
            set_learning_rate(discriminator_optimizer, settings_d, step, loop.steps)
            discriminator.requires_grad_(True)
            discriminator_optimizer.zero_grad()
            for output, synchronize in _micro_steps(outputs, discriminator_parallel):
                with synchronize:
                    with autocast(world.device, dtype):
                        losses = task.discriminate(discriminator_parallel, output, step)
                    total = weighted_sum(losses, task.discriminator_loss_weights)
                    _record(logged, losses, loop.accumulation)
                    require_finite(losses, step, clips)
                    scaler.scale(total / loop.accumulation).backward()
            scaler.unscale_(discriminator_optimizer)
            norm = gradient_norm(discriminator, settings_d.clip_norm)
            if not scaler.is_enabled():
                require_finite({"discriminator gradient": norm}, step, clips)
            scaler.step(discriminator_optimizer)

        scaler.step(generator_optimizer)
        scaler.update()
        if average is not None:
            average.update_parameters(generator)
        task.after_step(logged, step)

        # Reports and state, after ``done`` steps.
        done = step + 1
        last = done == loop.steps
        if board is not None and (done % loop.log_every == 0 or last):
            speed = (done - clock_step) / max(time.monotonic() - clock, 1e-9)
            clock, clock_step = time.monotonic(), done
            board.scalars("train", logged | {"steps_per_second": speed}, done)
            logger.info(
                "step %d/%d, %s, %s", done, loop.steps, _list(logged), _time_left(loop.steps - done, speed)
            )
        if board is not None and loop.image_every and (done % loop.image_every == 0 or last):
            board.grid("train", outputs[0].images, done)
        del outputs, output
        if val_set is not None and (done % loop.validate_every == 0 or last):
            judged = average.module if average is not None else generator
            figures = _validate(task, judged, val_set, config, world, step, board)
            task.after_validation(figures)
        if world.is_main and (done % loop.save_every == 0 or last):
            save_state(folder, parts, done, settings)
            exported = task.exported(average.module if average is not None else generator)
            extra = {"step": done, "figures": figures, "training": settings}
            save_network(folder / f"{config.network}.safetensors", exported, loop.license, extra)
    if board is not None:
        board.close()
        logger.info("finished: weights in %s", folder / f"{config.network}.safetensors")


@torch.no_grad()
def _validate(
    task: Step,
    network: nn.Module,
    val_set: ClipDataset,
    config: TrainingConfig,
    world: World,
    step: int,
    board: Board | None,
) -> dict[str, float]:
    """Mean losses and metrics over the fixed validation batches; grid and video of the first one."""
    loop = config.loop
    network.eval()
    if task.discriminator is not None:
        task.discriminator.eval()
    keys = ValidationKeys(len(val_set), loop, world)
    sums: dict[str, float] = {}
    shown = board is not None and loop.image_every > 0
    for index, batch in enumerate(make_loader(val_set, keys, loop.workers, world.device)):
        with autocast(world.device, DTYPES[loop.precision]):
            output = task.generate(network, to_device(batch, world.device), step)
        _record(sums, {**output.losses, **output.metrics}, loop.validation_batches)
        if index == 0 and shown and board is not None:
            board.grid("val", output.images, step + 1)
    figures = average_over_world(sums, world)
    if board is not None:
        board.scalars("val", figures, step + 1)
        logger.info("validation after step %d: %s", step + 1, _list(figures))
        if shown:
            with autocast(world.device, DTYPES[loop.precision]):
                frames = task.preview(network, val_set)
            if frames is not None:
                board.video("val", frames, step + 1)
    return figures


def _start_from(initial: nn.Module, network: nn.Module, path: str) -> None:
    """Copy the weights of ``initial``; parts that ``network`` lacks (an ablation) are left out."""
    given, wanted = initial.state_dict(), network.state_dict()
    unfit = [name for name, value in wanted.items() if name not in given or given[name].shape != value.shape]
    if unfit:
        raise UserError(
            f"loop.init: {path} does not fit this config, first at {unfit[0]}; change one of them"
        )
    network.load_state_dict({name: given[name] for name in wanted})


def _moving_average(network: nn.Module, decay: float) -> AveragedModel | None:
    if decay == 0.0:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay)).requires_grad_(False)


def _micro_steps(
    items: list[Any], network: nn.Module
) -> Iterator[tuple[Any, contextlib.AbstractContextManager[object]]]:
    """Each item with the context of its backward pass: processes exchange gradients in the last one only."""
    for index, item in enumerate(items):
        if isinstance(network, DistributedDataParallel) and index < len(items) - 1:
            yield item, network.no_sync()
        else:
            yield item, contextlib.nullcontext()


def _record(logged: dict[str, float], values: Mapping[str, torch.Tensor], count: int) -> None:
    """Add the ``count``-th part of every value, so that ``count`` calls make a mean."""
    for name, value in values.items():
        logged[name] = logged.get(name, 0.0) + float(value.detach()) / count


def _write_config(folder: Path, settings: Mapping[str, Any]) -> None:
    with atomic_path(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")


def _list(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _time_left(steps: int, speed: float) -> str:
    minutes, seconds = divmod(int(steps / speed), 60)
    return f"{speed:.2f} steps/s, {minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
