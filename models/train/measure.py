"""Pre-flight: what a run will take, from one measured step on this machine.

    one small step    bytes that a picture needs ─► does a batch fit? else half of it, gradients accumulated
    a few real steps  seconds per step, peak memory
    some pictures     seconds to decode and to change one

The effective batch, and with it the number of steps, stays what the spec says. The network is as it was
afterwards.
"""

from dataclasses import asdict, dataclass, replace
from math import ceil
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from models.data.pack import Pack, Split
from models.manifest import Preprocessing, TileFacts
from models.train.averaging import Average
from models.train.checkpoint import copy_into
from models.train.feed import PackSource, even_sizes
from models.train.loop import Trainable, build_optimizer
from models.train.memory import available_bytes, peak_bytes, reset_peak, resident_bytes
from models.train.objective import build_loss
from models.train.reproducible import reproducible
from models.train.resolve import ResolvedSpec
from models.train.sources import held_out_source, training_source

_USABLE = 0.8
"""Share of the free memory that a run may plan with."""
_WORKSPACE = 1.5
"""A step's memory, of what it keeps for its backward pass: gradients of activations and kernels' buffers come
on top."""
_MOST_STEPS = 5
_STEPS_PER_MEASURED = 150
"""One step more is measured for so many that the run has: measuring may not cost what it tells."""
_ENOUGH_S = 2.0
"""Of measured steps."""
_CHECKPOINT_S = 30.0
"""A checkpoint at least this often, where the spec leaves it open."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the training of a run will take: data sets, export and certificate not counted."""

    batch_size: int
    accumulate_steps: int
    steps: int
    step_s: float
    """Seconds of one step, all its accumulated batches together."""
    decode_s: float
    """Seconds to decode one picture, on one thread."""
    prepare_s: float
    """Seconds to change and normalise one picture, on one thread."""
    validate_s: float
    """Seconds of one validation."""
    seconds: float
    """Of the whole training."""
    peak_bytes: int
    """Highest resident memory of the process."""
    held_bytes: int
    """Resident memory when measuring began."""
    free_bytes: int
    """What it could still take then."""
    measured_s: float = 0.0
    """Seconds that measuring took."""

    @property
    def fits(self) -> bool:
        """Is there memory enough, as far as can be told?"""
        return self.peak_bytes - self.held_bytes <= self.free_bytes

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def applied_to(self, spec: ResolvedSpec) -> ResolvedSpec:
        """The frozen spec: with the measured batch, and checkpoints often enough."""
        often = max(1, min(spec.checkpoint_every_steps, round(_CHECKPOINT_S / self.step_s)))
        return spec.model_copy(
            update={
                "batch_size": self.batch_size,
                "accumulate_steps": self.accumulate_steps,
                "checkpoint_every_steps": often,
            }
        )


def measure(
    adapted: Trainable,
    spec: ResolvedSpec,
    pack: Pack,
    preprocessing: Preprocessing,
    *,
    tiles: TileFacts | None = None,
) -> Estimate:
    """Take a few steps on real pictures and put everything back. `preprocessing` is `spec.sized(…)`; `tiles`:
    of networks that take windows."""
    network = adapted.network
    free, held_bytes = available_bytes(), resident_bytes()
    with reproducible(threads=spec.threads):
        began_s = perf_counter()  # torch has loaded what training needs anyway
        held = {
            name: tensor.detach().clone()
            for name, tensor in (*network.named_parameters(), *network.named_buffers())
            if not isinstance(tensor, nn.Parameter) or tensor.requires_grad
        }
        try:
            feed = _Feed(pack, spec, preprocessing, tiles)
            estimate = _measure(adapted, spec, feed, held_bytes=held_bytes, free_bytes=free)
            return replace(estimate, measured_s=perf_counter() - began_s)
        finally:
            copy_into(network, held)
            network.zero_grad(set_to_none=True)


class _Feed:
    """Pictures to measure with, and what they cost."""

    def __init__(
        self, pack: Pack, spec: ResolvedSpec, preprocessing: Preprocessing, tiles: TileFacts | None
    ) -> None:
        self._source = training_source(pack, spec, preprocessing=preprocessing, tiles=tiles)
        validation = held_out_source(pack, Split.VALIDATION, spec, preprocessing=preprocessing, tiles=tiles)
        self.validated = (
            sum(validation.batch_sizes) if isinstance(validation, PackSource) else validation.patches
        )
        """What a validation costs, in pictures, or patches, of training's size."""
        self.is_cached, self.pictures = self._source.is_cached, self._source.pictures
        self.cache_bytes = self._source.cache_bytes + validation.cache_bytes
        size = self._source.batch_sizes[0]
        began_s = perf_counter()
        self._source.load(0)
        decoded_s = perf_counter()
        self.images, self.targets = self._source.load(0)
        self.prepare_s = (perf_counter() - decoded_s) / size
        both_s = decoded_s - began_s
        self.decode_s = max(0.0, both_s - size * self.prepare_s) / self._source.pictures_in(0)


def _measure(
    adapted: Trainable, spec: ResolvedSpec, feed: _Feed, *, held_bytes: int, free_bytes: int
) -> Estimate:
    network = adapted.network
    adapted.train_mode()
    optimizer = build_optimizer(adapted, spec)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    average = Average(network, spec.ema_decay) if spec.ema_decay is not None else None
    step = _Step(network, optimizer, feed, spec, average)
    halvings = _halvings(step, spec, free_bytes)
    batch = ceil(spec.batch_size / 2**halvings)
    reset_peak()
    step.take(batch)  # the first one of a shape prepares kernels
    took_s = [step.take(batch)]
    most = min(_MOST_STEPS, spec.total_steps // _STEPS_PER_MEASURED)
    while len(took_s) < most and sum(took_s) < _ENOUGH_S:
        took_s.append(step.take(batch))
    peak = peak_bytes()
    accumulate = spec.accumulate_steps * 2**halvings
    batch_sizes = even_sizes(spec.training_images, batch)
    step_s = median(took_s) * (sum(batch_sizes) / batch) / spec.steps_per_epoch
    images = spec.total_steps * spec.training_images / spec.steps_per_epoch
    decoded = min(images, feed.pictures) if feed.is_cached else images
    validated = feed.validated
    validate_s = step.forward(batch) / batch * validated
    validations = ceil(spec.total_steps / spec.steps_per_epoch)
    trained = sum(one.numel() * 4 for one in network.parameters() if one.requires_grad)
    copies = 2  # the best so far, a checkpoint being written
    return Estimate(
        batch_size=batch,
        accumulate_steps=accumulate,
        steps=spec.total_steps,
        step_s=step_s,
        decode_s=feed.decode_s,
        prepare_s=feed.prepare_s,
        validate_s=validate_s,
        seconds=spec.total_steps * step_s
        + (decoded * feed.decode_s + images * feed.prepare_s) / spec.threads
        + validations * validate_s
        + validated * feed.decode_s / spec.threads,
        peak_bytes=peak
        + feed.cache_bytes
        + copies * trained
        + (spec.threads + 1) * batch * (feed.images[0].nbytes + feed.targets[0].nbytes),
        held_bytes=held_bytes,
        free_bytes=free_bytes,
    )


def _halvings(step: "_Step", spec: ResolvedSpec, free: int) -> int:
    """How often the batch must be halved to fit."""
    per_image = step.kept_bytes() * _WORKSPACE
    halvings, batch = 0, spec.batch_size
    while batch > 1 and per_image * batch > _USABLE * free:
        halvings += 1
        batch = ceil(spec.batch_size / 2**halvings)
    return halvings


class _Step:
    """Steps that move nothing: their rate is 0."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        feed: _Feed,
        spec: ResolvedSpec,
        average: Average | None,
    ) -> None:
        self._network, self._optimizer, self._feed = network, optimizer, feed
        self._precision = spec.precision
        self._cost = build_loss(spec, feed.images.device)
        self._average = average

    def take(self, batch: int) -> float:
        """Seconds of a step with so many pictures."""
        images, targets = self._pictures(batch)
        began_s = perf_counter()
        self._loss(images, targets).backward()  # type: ignore[no-untyped-call]
        moved = [one for group in self._optimizer.param_groups for one in group["params"]]
        nn.utils.clip_grad_norm_(moved, 1.0, foreach=True)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.follow(1)
        return perf_counter() - began_s

    def forward(self, batch: int) -> float:
        """Seconds of a validation batch."""
        images, targets = self._pictures(batch)
        self._network.eval()
        with torch.no_grad():
            self._loss(images, targets)
            began_s = perf_counter()
            self._loss(images, targets)
            return perf_counter() - began_s

    def kept_bytes(self) -> float:
        """What the network keeps of one picture for the backward pass."""
        kept: dict[int, int] = {}
        own = {tensor.data_ptr() for tensor in (*self._network.parameters(), *self._network.buffers())}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if tensor.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        # Two pictures: a norm over a batch needs more than one value.
        images, targets = self._pictures(2)
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self._loss(images, targets)
        del loss
        return sum(kept.values()) / 2

    def _pictures(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.arange(batch) % len(self._feed.images)
        images = self._feed.images[chosen].contiguous(memory_format=torch.channels_last)
        return images, self._feed.targets[chosen]

    def _loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        is_bf16 = self._precision == "bf16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=is_bf16):
            logits = self._network(images)
        loss: torch.Tensor = self._cost(logits.float(), targets)
        return loss
