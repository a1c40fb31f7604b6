"""Losses, each the mean over pictures of what one picture costs.

Those that segmentation has too take maps (n, c, h, w) with masks (n, h, w), where each pixel that is not
IGNORED counts as a picture does. A lone map is a question of its own, with pixels 0 or 1, as if a map of
zeros stood before it.

Class weights multiply what a picture costs by the weight of its label. The mean is over the number of
pictures, not over the sum of their weights, so that accumulated batches add up to what one large batch is.
"""

import torch
from torch.nn import functional

from models.catalogue import Parameters
from models.catalogue import losses as told
from models.data.pack import IGNORED
from models.train.parts import Loss

Weights = torch.Tensor | None


def build_cross_entropy(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """-log p_y, or -Σ t_c log p_c for shares."""
    return _of_maps_too(_cross_entropy(class_weights, smoothing=0.0))


def build_label_smoothing(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """Cross-entropy with t_c (1 - s) + s / C in place of t_c."""
    assert isinstance(parameters, told.Smoothed)
    return _cross_entropy(class_weights, smoothing=parameters.smoothing)


def _cross_entropy(class_weights: Weights, *, smoothing: float) -> Loss:
    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if class_weights is None:
            return functional.cross_entropy(logits, targets, label_smoothing=smoothing)
        total = functional.cross_entropy(
            logits, targets, weight=class_weights, label_smoothing=smoothing, reduction="sum"
        )
        return total / logits.shape[0]

    return loss


def build_focal(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """(1 - p_y)^gamma (-log p_y)"""
    assert isinstance(parameters, told.Focal)
    gamma = parameters.gamma

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        cost = functional.cross_entropy(logits, targets, reduction="none")
        # 1 - p from log p: where p rounds to 1 it is 0, and a fraction of a power has no slope there.
        missed = (-torch.expm1(-cost)).clamp_min(torch.finfo(cost.dtype).tiny)
        return _mean(missed**gamma * cost, targets, class_weights)

    return _of_maps_too(loss)


def build_bce(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """Σ_c of the binary cross-entropies of sigmoid(z_c), targets smoothed as in label smoothing.

    Answers are soft-maxed all the same: their order is right, their scores are not those trained for.
    """
    assert isinstance(parameters, told.Binary)
    smoothing = parameters.smoothing

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        classes = logits.shape[1]
        wanted = functional.one_hot(targets, classes).to(logits.dtype)
        wanted = wanted * (1 - smoothing) + smoothing / classes
        cost = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=1)
        return _mean(cost, targets, class_weights)

    of_many = _of_maps_too(loss)

    def of_any(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if logits.ndim == 2 or logits.shape[1] > 1:
            return of_many(logits, targets)
        pixels, labels = pixels_of(logits, targets)
        wanted = labels.to(pixels.dtype) * (1 - smoothing) + smoothing / 2
        cost = functional.binary_cross_entropy_with_logits(pixels[:, 0], wanted, reduction="none")
        return _mean(cost, labels, class_weights) if len(pixels) else logits.sum() * 0

    return of_any


def build_poly1(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """-log p_y + ε (1 - p_y)"""
    assert isinstance(parameters, told.Poly1)
    epsilon = parameters.epsilon

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        cost = functional.cross_entropy(logits, targets, reduction="none")
        return _mean(cost - epsilon * torch.expm1(-cost), targets, class_weights)

    return loss


def build_generalised_cross_entropy(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """(1 - p_y^q) / q"""
    assert isinstance(parameters, told.GeneralisedCrossEntropy)
    q = parameters.q

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        cost = functional.cross_entropy(logits, targets, reduction="none")
        # From log p, so that no digits are lost where p is near 1 or q near 0.
        return _mean(-torch.expm1(-q * cost) / q, targets, class_weights)

    return loss


def pixels_of(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (pixels, c) and targets (pixels,) of all pixels of maps and masks that are not IGNORED."""
    rows, labels = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]), targets.reshape(-1)
    counts = labels != IGNORED
    return (rows, labels) if bool(counts.all()) else (rows[counts], labels[counts])


def _of_maps_too(loss: Loss) -> Loss:
    def of_any(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if logits.ndim == 2:
            return loss(logits, targets)
        pixels, labels = pixels_of(logits, targets)
        if not len(pixels):
            return logits.sum() * 0  # a mean of nothing is not a number
        if pixels.shape[1] == 1:
            pixels = functional.pad(pixels, (1, 0))
        return loss(pixels, labels)

    return of_any


def _mean(cost: torch.Tensor, targets: torch.Tensor, class_weights: Weights) -> torch.Tensor:
    return cost.mean() if class_weights is None else (cost * class_weights[targets]).mean()
