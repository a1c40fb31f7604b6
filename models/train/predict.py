"""What a network answers to all batches of a source: logits, or maps one batch at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.catalogue import Parameters
from models.evaluate.masks import MaskTally
from models.train.feed import BatchSource
from models.train.losses import build_cross_entropy, pixels_of


class Stopped(Exception):
    """It was asked to stop before it had seen everything."""


def predict(
    network: nn.Module,
    source: BatchSource,
    *,
    precision: str = "fp32",
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits (n, c) and labels (n,) of one epoch, in the source's order. Leaves the network in eval mode.

    Raises Stopped when `should_stop`, asked after every batch, says so.
    """
    network.eval()
    device = next(network.parameters()).device
    logits, targets = [], []
    # Not inference mode: what a network keeps from it could not be used in training afterwards.
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for images, labels in source.stream(0, len(source.batch_sizes)):
            logits.append(network(images.to(device)).float().cpu().numpy())
            targets.append(labels.numpy())
            if should_stop():
                raise Stopped
    return np.concatenate(logits), np.concatenate(targets)


class Answered(NamedTuple):
    """A batch of masks."""

    said: NDArray[np.uint8]
    """(n, h, w): index of the largest map; of a lone one 1 where it is above 0."""
    wanted: NDArray[np.uint8]
    """(n, h, w)"""
    cost: float
    """Sum of the cross-entropies of pixels that count."""
    pixels: int
    """That count."""


def predict_masks(
    network: nn.Module,
    source: BatchSource,
    *,
    precision: str = "fp32",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Answered]:
    """Answers of one epoch, in the source's order: all maps at once would be larger than many a memory.

    Raises Stopped when `should_stop`, asked after every batch, says so; ValueError for what is not finite.
    """
    network.eval()
    device = next(network.parameters()).device
    cross_entropy = build_cross_entropy(Parameters(), class_weights=None)
    with torch.no_grad():
        for images, masks in source.stream(0, len(source.batch_sizes)):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                maps = network(images.to(device))
            maps, masks = maps.float(), masks.to(device)  # noqa: PLW2901 - the same, elsewhere
            if not bool(torch.isfinite(maps).all()):
                raise ValueError("the network's maps are not finite")
            said = maps.argmax(dim=1) if maps.shape[1] > 1 else maps[:, 0] > 0
            pixels = len(pixels_of(maps, masks)[1])
            yield Answered(
                said.to(torch.uint8).cpu().numpy(),
                masks.to(torch.uint8).cpu().numpy(),
                float(cross_entropy(maps, masks)) * pixels,
                pixels,
            )
            if should_stop():
                raise Stopped


def mask_metrics(answers: Iterator[Answered], *, labels: int) -> dict[str, float]:
    """`valid_loss`, the mean cross-entropy of pixels; `valid_accuracy`, the share of right ones; and
    `valid_miou`."""
    tally, cost, pixels = MaskTally(labels), 0.0, 0
    for answered in answers:
        tally.add(answered.said, answered.wanted)
        cost, pixels = cost + answered.cost, pixels + answered.pixels
    return {
        "valid_loss": cost / max(1, pixels),
        "valid_accuracy": tally.pixel_accuracy,
        "valid_miou": tally.mean_iou,
    }


def validation_metrics(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, float]:
    """`valid_loss`, the mean cross-entropy whatever the training's loss is, and `valid_accuracy`, 0..1."""
    exact = logits.astype(np.float64)
    highest = exact.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(exact - highest).sum(axis=1)) + highest[:, 0]
    cost = log_total - exact[np.arange(len(targets)), targets]
    return {
        "valid_loss": float(cost.mean()),
        "valid_accuracy": float((exact.argmax(axis=1) == targets).mean()),
    }
