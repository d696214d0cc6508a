"""The one training loop: every network, with or without an adversary, in one or many processes."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from videoretalking.datasets.resident import stay_resident
from videoretalking.losses.total import weighted_sum
from videoretalking.models.catalog import load_network
from videoretalking.train.board import Board
from videoretalking.train.catalog import step_class
from videoretalking.train.clock import Clock
from videoretalking.train.compile import compile_in_place
from videoretalking.train.config import TrainingConfig
from videoretalking.train.keep import Keeper
from videoretalking.train.optimizer import gradient_norm, make_optimizer, set_learning_rate
from videoretalking.train.samples import (
    TrainKeys,
    ValidationKeys,
    load_batches,
    score_clips,
    step_seed,
    to_device,
)
from videoretalking.train.state import Progress, hold_folder, load_state, save_state
from videoretalking.train.steps.base import Step
from videoretalking.train.tally import Tally

logger = logging.getLogger(__name__)


def train(config: TrainingConfig) -> None:
    """Train, or continue the run found in ``config.loop.folder``.

    Args:
        config: one of the configs in :data:`train.catalog.STEPS`.

    Raises:
        UserError: missing data or weights, a batch that cannot be split, best weights without a validation, a loss
            that is not finite, another process that trains in this folder.
    """
    if config.loop.best and not config.data.val_split:
        raise UserError(
            "loop.best: nothing is validated without data.val_split; name a split, or set loop.best=''"
        )
    with join_world(config.loop.device) as world:
        alone = hold_folder(Path(config.loop.folder)) if world.is_main else contextlib.nullcontext()
        with alone:
            _train(config, world)


def _train(config: TrainingConfig, world: World) -> None:
    started = time.monotonic()
    loop = config.loop
    folder = Path(loop.folder)
    dtype = DTYPES[loop.precision]

    # Networks. The same seed everywhere, so all processes start from the same weights.
    torch.manual_seed(loop.seed)
    task = step_class(config)(config, world.device)
    if loop.init:
        initial = load_network(loop.init, expected=config.network, device=world.device, fold=False)
        start_from(initial, task.exported(task.network), loop.init)
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
    progress = load_state(folder, parts, settings)
    first_step = progress.step
    clock = Clock(loop, progress.seconds, world, started)
    judged = average.module if average is not None else generator  # what is validated and exported
    keeper = Keeper(folder, config.network, loop, settings) if world.is_main else None
    if keeper is not None:
        keeper.make_up(task.exported(judged), progress)
    if loop.compile:
        compile_in_place(generator, world.device)
    generator_parallel = wrap_network(generator, world, task.has_unused_parameters)
    discriminator_parallel = wrap_network(discriminator, world) if discriminator is not None else None

    # Data.
    train_set = task.dataset(training=True)
    resident = stay_resident(train_set, config.data.resident, world)
    keys = TrainKeys(len(train_set), replace(loop, steps=clock.most_steps), world, first_step)
    batches = load_batches(train_set, keys, loop.workers, world.device)
    val_set = task.dataset(training=False) if config.data.val_split and loop.validate_every else None

    board = None
    if world.is_main:
        _write_config(folder, settings)
        board = Board(folder / "events", first_step)
        board.settings(settings, task.loss_weights, task.discriminator_loss_weights, first_step)
        parameters = sum(parameter.numel() for parameter in generator.parameters())
        logger.info(
            "%s: %d clips, %.2f million parameters, %s on %s, %d process(es), step %d to %s in %s",
            *(config.network, len(train_set), parameters / 1e6, loop.precision, world.device),
            *(world.size, first_step, f"minute {loop.minutes:g}" if loop.minutes else loop.steps, folder),
        )
    tally = Tally()
    reported, reported_step = time.monotonic(), first_step

    done = first_step
    while not clock.is_over(done):
        step, place = done, clock.place(done)
        torch.manual_seed(step_seed(loop.seed, step, world.rank))
        micro_batches = [next(batches) for _ in range(loop.accumulation)]
        if resident is not None:
            micro_batches = [resident.render(batch) for batch in micro_batches]
        micro_batches = [to_device(batch, world.device) for batch in micro_batches]
        clips = [clip for batch in micro_batches for clip in batch["clip"]]
        losses_of_step: dict[str, torch.Tensor] = {}
        generator.train()
        if discriminator is not None:
            discriminator.train()

        # Generator (the network itself where there is no adversary). No number is read here: the tally keeps them
        # on the device, so that the program runs ahead of it.
        rate = set_learning_rate(generator_optimizer, config.optimizer, place, loop.steps)
        generator_optimizer.zero_grad()
        outputs = []
        if discriminator is not None:
            discriminator.requires_grad_(False)
        for batch, synchronize in _micro_steps(micro_batches, generator_parallel):
            with synchronize:
                with autocast(world.device, dtype):
                    output = task.generate(generator_parallel, batch, place)
                total = weighted_sum(output.losses, task.loss_weights)
                tally.add(step, {**output.losses, "total": total}, clips)
                tally.add(step, output.metrics, clips, required=False)
                _accumulate(losses_of_step, output.losses, loop.accumulation)
                scaler.scale(total / loop.accumulation).backward()
            outputs.append(output)
        scaler.unscale_(generator_optimizer)
        norm = gradient_norm(generator, config.optimizer.clip_norm)
        # the scaler skips steps with broken gradients by itself and lowers its scale
        tally.add(step, {"gradient_norm": norm}, clips, required=not scaler.is_enabled())

        # Discriminator, on the same images.
        adversarial = place >= task.first_adversarial_step
        if adversarial and discriminator is not None and discriminator_parallel is not None:
            assert discriminator_optimizer is not None
            settings_d = task.discriminator_optimizer()
            set_learning_rate(discriminator_optimizer, settings_d, place, loop.steps)
            discriminator.requires_grad_(True)
            discriminator_optimizer.zero_grad()
            for output, synchronize in _micro_steps(outputs, discriminator_parallel):
                with synchronize:
                    with autocast(world.device, dtype):
                        losses = task.discriminate(discriminator_parallel, output, place)
                    total = weighted_sum(losses, task.discriminator_loss_weights)
                    tally.add(step, losses, clips)
                    _accumulate(losses_of_step, losses, loop.accumulation)
                    scaler.scale(total / loop.accumulation).backward()
            scaler.unscale_(discriminator_optimizer)
            norm = gradient_norm(discriminator, settings_d.clip_norm)
            tally.add(step, {"discriminator_gradient_norm": norm}, clips, required=not scaler.is_enabled())
            scaler.step(discriminator_optimizer)

        scaler.step(generator_optimizer)
        scaler.update()
        if average is not None:
            average.update_parameters(generator)
        task.after_step(losses_of_step, step)

        # Reports and state, after ``done`` steps. Whatever is not finite stops the run before it reaches a file.
        done = step + 1
        last = clock.is_over(done)
        if done % loop.log_every == 0 or last:
            logged = {"lr": rate} | tally.report()
            if board is not None:
                speed = (done - reported_step) / max(time.monotonic() - reported, 1e-9)
                reported, reported_step = time.monotonic(), done
                board.scalars("train", logged | {"steps_per_second": speed}, done)
                logger.info("%s, %s", clock.describe(done, speed), _list(logged))
        if board is not None and loop.image_every and (done % loop.image_every == 0 or last):
            board.grid("train", outputs[0].images, done)
        del outputs, output
        progress = Progress(done, progress.figures, clock.seconds)
        if val_set is not None and (done % loop.validate_every == 0 or last):
            tally.check()
            figures = _validate(task, judged, val_set, config, world, place, done, board)
            progress = replace(progress, figures=figures)
            task.after_validation(progress.figures)
            if keeper is not None:
                keeper.judge(task.exported(judged), progress)
        if keeper is not None and (last or keeper.is_due(done)):
            tally.check()
            save_state(folder, parts, progress, settings)
            keeper.save(task.exported(judged), progress)
    if board is not None and keeper is not None:
        board.close()
        logger.info("finished: weights in %s", keeper.weights)


@torch.no_grad()
def _validate(
    task: Step,
    network: nn.Module,
    val_set: ClipDataset,
    config: TrainingConfig,
    world: World,
    place: int,
    done: int,
    board: Board | None,
) -> dict[str, float]:
    """Mean losses and metrics over the fixed validation batches, figures of whole clips; grid and video of one.

    ``place`` is that of the latest step in the schedule, ``done`` the number of steps.
    """
    loop = config.loop
    network.eval()
    if task.discriminator is not None:
        task.discriminator.eval()
    keys = ValidationKeys(len(val_set), loop, world)
    tally = Tally()
    shown = board is not None and loop.image_every > 0
    for index, batch in enumerate(load_batches(val_set, keys, loop.workers, world.device)):
        with autocast(world.device, DTYPES[loop.precision]):
            output = task.generate(network, to_device(batch, world.device), place)
        tally.add(done, {**output.losses, **output.metrics}, required=False)
        if index == 0 and shown and board is not None:
            board.grid("val", output.images, done)
    with autocast(world.device, DTYPES[loop.precision]):
        scores = task.score(network, val_set, score_clips(len(val_set), loop, world))
    figures = average_over_world(tally.report() | scores, world)
    if board is not None:
        board.scalars("val", figures, done)
        logger.info("validation after step %d: %s", done, _list(figures))
        if shown:
            with autocast(world.device, DTYPES[loop.precision]):
                frames = task.preview(network, val_set)
            if frames is not None:
                board.video("val", frames, done)
    return figures


def start_from(initial: nn.Module, network: nn.Module, path: str) -> None:
    """Copy the weights of a network into another one.

    Args:
        initial: where they come from; parts that ``network`` lacks (an ablation) are left out.
        network: where they go.
        path: of ``initial``, for the message.

    Raises:
        UserError: ``network`` has parts that ``initial`` lacks, or of another size.
    """
    made_with, wanted_sizes = to_dict(initial.config), to_dict(network.config)
    for key in sorted(made_with.keys() & wanted_sizes.keys()):
        if made_with[key] != wanted_sizes[key]:
            logger.warning(
                "loop.init: %s was made with model.%s=%s, this run has %s",
                *(path, key, made_with[key], wanted_sizes[key]),
            )
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


def _accumulate(sums: dict[str, torch.Tensor], values: Mapping[str, torch.Tensor], count: int) -> None:
    """Add the ``count``-th part of every value, so that ``count`` calls make a mean."""
    for name, value in values.items():
        part = value.detach() / count
        sums[name] = sums[name] + part if name in sums else part


def _write_config(folder: Path, settings: Mapping[str, Any]) -> None:
    with atomic_path(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")


def _list(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
