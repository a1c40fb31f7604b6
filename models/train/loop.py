"""The one training loop.

    step s: seed from (seed, s) → batches → mixing → network → loss → backward → clip → optimiser → average
    after an epoch: validation → is it the best? → has it stopped improving?
    every now and then, at the end, and when asked to stop: a checkpoint

With the same spec, data, threads and libraries it comes to the same bits, whether it ran through or was taken
up from any of its checkpoints: what a step does depends on its number and on what the checkpoint holds.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from models.catalogue import Kind
from models.catalogue.optimizers import Decaying
from models.train.averaging import Average
from models.train.chance import Purpose, generator, torch_seed
from models.train.checkpoint import (
    Checkpoint,
    CheckpointMismatch,
    Json,
    copy_into,
    optimizer_section,
    read_checkpoint,
    restore_optimizer,
    versions,
    write_checkpoint,
)
from models.train.choosing import Best
from models.train.feed import Batch, BatchSource
from models.train.objective import build_loss, validate
from models.train.parts import ParameterGroup
from models.train.predict import Stopped
from models.train.reproducible import reproducible
from models.train.resolve import ResolvedSpec
from models.train.sources import HeldOut


class Interrupted(Exception):
    """It was asked to stop, and left a checkpoint of its last step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


class Diverged(ArithmeticError):
    """The loss, or the norm of its gradients, is not a finite number any more."""

    def __init__(self, step: int) -> None:
        super().__init__(f"The loss is not finite at step {step}. A lower learning rate may help.")
        self.step = step


class Trainable(Protocol):
    """A network of which a part is trained; `models.adapt.adapter.Adapted` is one."""

    @property
    def network(self) -> nn.Module:
        """Only what is to be trained has `requires_grad`; parameters and buffers stay the same objects."""

    @property
    def head_parameters(self) -> Sequence[nn.Parameter]:
        """What is trained of the layer that gives the logits."""

    def train_mode(self) -> None:
        """Put each module in the mode in which it is trained."""

    def add_penalty(self) -> None:
        """Add gradients of the method's own; called once a step, before they are clipped."""

    def after_step(self, step: int) -> None:
        """Called after the optimiser's step number `step`, from 0, gradients still there. What is remembered
        from step to step is in buffers of the network."""


@dataclass(frozen=True, kw_only=True)
class TrainRun:
    """What is trained, on what, from where."""

    adapted: Trainable
    spec: ResolvedSpec
    batches: BatchSource
    validation: BatchSource | HeldOut | None = None
    """Chooses the best weights; without it the last ones are."""
    resume: Path | None = None
    """A checkpoint of this run."""
    work_dir: Path
    """Where checkpoints are written."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the loop tells while it runs. Steps are counted from 1."""

    metrics: Callable[[int, Mapping[str, float]], None] = lambda _step, _values: None
    """Once per step that is reported. A step that is run again after a crash gives the same values, but for
    `images_per_s` and `data_wait_share`, which are times."""
    checkpoint: Callable[[int, Path, Json], None] = lambda _step, _path, _metrics: None
    """A checkpoint has been written; the file is the receiver's, to keep, move or remove."""
    progress: Callable[[float], None] = lambda _fraction: None
    should_stop: Callable[[], bool] = lambda: False
    """Asked after every step and every batch of validation."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a run ended. The network holds the best weights, in eval mode."""

    best_step: int
    steps: int
    """Done in all, before a resumption too."""
    metrics: Mapping[str, float]
    """Validation of the best weights; empty without validation."""
    stopped_early: bool
    resumed_from_step: int | None
    other_versions: tuple[str, ...]
    """What differs from where the checkpoint was written, so that last bits may differ too."""
    data_wait_share: float
    """Of the time in the loop: waiting for batches."""


def train(run: TrainRun, hooks: Hooks) -> Trained:
    """Train to the end, from the beginning or from a checkpoint.

    Raises:
        Interrupted: it was asked to stop.
        Diverged: the loss is not finite.
        CheckpointDamaged, CheckpointMismatch: there is no going on from that file.

    """
    with reproducible(threads=run.spec.threads):
        return _Training(run, hooks).go()


class _Training:
    """State of a run between two steps."""

    def __init__(self, run: TrainRun, hooks: Hooks) -> None:
        self._run, self._hooks = run, hooks
        self._spec = spec = run.spec
        self._network = network = run.adapted.network
        run.adapted.train_mode()
        self._device = next(network.parameters()).device
        self._weights = {name: one for name, one in network.named_parameters() if one.requires_grad}
        if not self._weights:
            raise ValueError("the network has nothing to train")
        self._moved = list(self._weights.values())
        self._first_buffers = {name: one.clone() for name, one in network.named_buffers()}
        self._optimizer = build_optimizer(run.adapted, spec)
        self._highest_rates = [group["lr"] for group in self._optimizer.param_groups]
        schedule = spec.schedule
        self._rate = schedule.row(Kind.SCHEDULE).build()(
            schedule.told(Kind.SCHEDULE), total_steps=spec.total_steps
        )
        self._loss = build_loss(spec, self._device)
        self._mix = None
        if spec.mixing is not None:
            self._mix = spec.mixing.row(Kind.MIXING).build()(spec.mixing.told(Kind.MIXING))
        self._average = Average(network, spec.ema_decay) if spec.ema_decay is not None else None
        self._best = Best()
        self._step = 0
        self._is_over = False
        self._is_step_told = True
        """Its row, validation and checkpoint are done."""
        self._losses: list[torch.Tensor] = []
        """Of the steps since the last row of metrics."""
        self._norm: torch.Tensor | None = None
        self._resumed_from: int | None = None
        self._other_versions: tuple[str, ...] = ()
        self._began_s = self._row_s = perf_counter()
        self._row_step = 0
        if run.resume is not None:
            self._restore(read_checkpoint(run.resume))

    def go(self) -> Trained:
        """Run to the end."""
        sizes, spec = self._run.batches.batch_sizes, self._spec
        epoch, at = divmod(self._step, spec.steps_per_epoch)
        first = epoch * len(sizes) + at * spec.accumulate_steps
        last = -(-spec.total_steps // spec.steps_per_epoch) * len(sizes)
        if not self._is_step_told:
            self._after_step()
        with closing(self._run.batches.stream(first, last)) as stream:
            while self._step < spec.total_steps and not self._is_over:
                self._one_step(stream)
                self._after_step()
        if self._best.weights:
            copy_into(self._network, self._best.weights)
        elif self._average is not None:
            copy_into(self._network, self._average.tensors)
        self._network.eval()
        return Trained(
            best_step=self._best.step or self._step,
            steps=self._step,
            metrics=dict(self._best.metrics),
            stopped_early=self._step < spec.total_steps,
            resumed_from_step=self._resumed_from,
            other_versions=self._other_versions,
            data_wait_share=self._run.batches.waited_s / max(1e-9, perf_counter() - self._began_s),
        )

    def _one_step(self, stream: Generator[Batch, None, None]) -> None:
        spec = self._spec
        at = self._step % spec.steps_per_epoch * spec.accumulate_steps
        sizes = self._run.batches.batch_sizes[at : at + spec.accumulate_steps]
        torch.manual_seed(torch_seed(spec.seed, self._step))
        share = self._rate(self._step)
        for group, highest in zip(self._optimizer.param_groups, self._highest_rates, strict=True):
            group["lr"] = highest * share
        total = torch.zeros((), device=self._device)
        for number, size in enumerate(sizes):
            loss = self._forward(next(stream), number) * (size / sum(sizes))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self._losses.append(total)
        self._run.adapted.add_penalty()
        if spec.clip_norm is not None:
            self._norm = nn.utils.clip_grad_norm_(self._moved, spec.clip_norm, foreach=True)
        self._optimizer.step()
        self._run.adapted.after_step(self._step)
        self._step += 1
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.follow(self._step)

    def _forward(self, batch: Batch, number: int) -> torch.Tensor:
        images, targets = batch.images.to(self._device), batch.targets.to(self._device)
        if self._mix is not None:
            shares = functional.one_hot(targets, len(self._spec.labels)).to(images.dtype)
            chance = generator(self._spec.seed, Purpose.MIXING, self._step, number)
            images, targets = self._mix(images, shares, chance)
        is_bf16 = self._spec.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=is_bf16):
            logits = self._network(images)
        loss: torch.Tensor = self._loss(logits.float(), targets)
        return loss

    def _after_step(self) -> None:
        spec = self._spec
        is_last = self._step == spec.total_steps
        ends_epoch = self._step % spec.steps_per_epoch == 0 or is_last
        row: dict[str, float] = {}
        if ends_epoch or self._step % spec.log_every_steps == 0:
            row = self._row()
            if ends_epoch and self._run.validation is not None and self._run.validation.batch_sizes:
                row |= self._validate(self._run.validation)
            self._losses.clear()
            self._hooks.metrics(self._step, row)
            self._hooks.progress(self._step / spec.total_steps)
        self._is_step_told = True
        is_asked = self._hooks.should_stop()
        is_over = is_last or self._is_over
        if is_over or is_asked or self._step % spec.checkpoint_every_steps == 0:
            self._save(row)
        if is_asked and not is_over:
            raise Interrupted(self._step)

    def _row(self) -> dict[str, float]:
        losses = [float(loss) for loss in self._losses]
        loss = sum(losses) / len(losses)
        norm = 0.0 if self._norm is None else float(self._norm)
        if not (isfinite(loss) and isfinite(norm)):
            raise Diverged(self._step)
        now_s = perf_counter()
        images = (self._step - self._row_step) * self._spec.training_images / self._spec.steps_per_epoch
        row = {
            "train_loss": loss,
            "learning_rate": self._highest_rates[0] * self._rate(self._step - 1),
            "epoch": self._step / self._spec.steps_per_epoch,
            "images_per_s": images / max(1e-9, now_s - self._row_s),
            "data_wait_share": self._run.batches.waited_s / max(1e-9, now_s - self._began_s),
        }
        if self._norm is not None:
            row["grad_norm"] = norm
        self._row_s, self._row_step = now_s, self._step
        return row

    def _validate(self, source: BatchSource | HeldOut) -> dict[str, float]:
        live = self._average.swap_into(self._network) if self._average is not None else {}
        try:
            metrics = validate(self._network, source, self._spec, should_stop=self._hooks.should_stop)
        except Stopped:
            copy_into(self._network, live)
            self._is_step_told = False
            self._save({})
            raise Interrupted(self._step) from None
        if not isfinite(metrics["valid_loss"]):
            raise Diverged(self._step)
        is_best = self._best.is_beaten_by(metrics)
        if is_best:
            self._best.step, self._best.metrics = self._step, metrics
            held = {**self._weights, **self._changed_buffers()}
            self._best.weights = {name: tensor.detach().clone() for name, tensor in held.items()}
        copy_into(self._network, live)
        self._run.adapted.train_mode()
        self._is_over = self._best.wants_to_stop(metrics, self._spec.early_stopping, is_best=is_best)
        self._row_s = perf_counter()
        return metrics

    def _save(self, row: Mapping[str, float]) -> None:
        state, numbers = optimizer_section(self._optimizer)
        sections: dict[str, Mapping[str, torch.Tensor]] = {
            "weights": self._weights,
            "buffers": self._changed_buffers(),
            "optimizer": state,
            "average": self._average.tensors if self._average is not None else {},
            "best": self._best.weights,
        }
        losses = [float(loss) for loss in self._losses]
        if not all(map(isfinite, losses)):
            raise Diverged(self._step)
        facts = {
            "spec": self._spec.model_dump(mode="json"),
            "identity": self._spec.identity(),
            "versions": versions(),
            "best": self._best.facts(),
            "optimizer": numbers,
            "losses": losses,
            "norm": None if self._norm is None else float(self._norm),
            "is_over": self._is_over,
            "is_step_told": self._is_step_told,
        }
        path = write_checkpoint(
            self._run.work_dir, Checkpoint(step=self._step, facts=facts, sections=sections)
        )
        self._hooks.checkpoint(self._step, path, dict(row) or {"train_loss": losses[-1]})

    def _restore(self, checkpoint: Checkpoint) -> None:
        facts = checkpoint.facts
        if facts["identity"] != self._spec.identity():
            raise CheckpointMismatch("The checkpoint is of a run with another spec or other data.")
        weights = checkpoint.section("weights")
        if weights.keys() != self._weights.keys():
            raise CheckpointMismatch("The checkpoint trains other parameters than this network.")
        copy_into(self._network, {**weights, **checkpoint.section("buffers")})
        restore_optimizer(self._optimizer, checkpoint.section("optimizer"), facts["optimizer"])
        if self._average is not None:
            self._average.restore(checkpoint.section("average"))
        self._best = Best(**facts["best"], weights=checkpoint.section("best"))
        self._losses = [torch.tensor(loss, device=self._device) for loss in facts["losses"]]
        self._norm = None if facts["norm"] is None else torch.tensor(facts["norm"])
        self._is_over, self._is_step_told = facts["is_over"], facts["is_step_told"]
        self._step = self._row_step = self._resumed_from = checkpoint.step
        here = versions()
        self._other_versions = tuple(
            f"{name} {then}, here {here.get(name)}"
            for name, then in facts["versions"].items()
            if here.get(name) != then
        )

    def _changed_buffers(self) -> dict[str, torch.Tensor]:
        """A frozen base's buffers are not the checkpoint's business."""
        return {
            name: buffer
            for name, buffer in self._network.named_buffers()
            if not torch.equal(buffer, self._first_buffers[name])
        }


def build_optimizer(adapted: Trainable, spec: ResolvedSpec) -> torch.optim.Optimizer:
    """Over all trainable parameters; those of one dimension, biases and norms, do not decay, and the head has
    its own share of the rate."""
    told = spec.optimizer.told(Kind.OPTIMIZER)
    decay = told.weight_decay if isinstance(told, Decaying) else 0.0
    head = set(adapted.head_parameters) if spec.head_rate_scale != 1 else set()
    trained = [one for one in adapted.network.parameters() if one.requires_grad]
    groups = [
        ParameterGroup(
            parameters=[
                one for one in trained if (one in head) is of_head and (one.squeeze().ndim > 1) is wide
            ],
            weight_decay=decay if wide else 0.0,
            rate_scale=spec.head_rate_scale if of_head else 1.0,
        )
        for of_head in (False, True)
        for wide in (True, False)
    ]
    optimizer: torch.optim.Optimizer = spec.optimizer.row(Kind.OPTIMIZER).build()(
        [group for group in groups if group.parameters], told, learning_rate=spec.learning_rate
    )
    return optimizer
