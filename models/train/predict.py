"""Logits of a network for all batches of a source."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.train.feed import BatchSource


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
