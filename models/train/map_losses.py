"""Losses of segmentation that look at areas rather than at pixels.

Logits are (n, c, h, w), targets (n, h, w), c the number of labels. With one label shares are sigmoids and
targets 0 or 1; with more they are soft-maxed and targets indices. Pixels of IGNORED take no part. A batch
counts as one large picture: areas are summed over all of it, and the loss is the mean over labels. They count
alike: class weights are of the cross-entropy that may be added.
"""

import torch
from torch.nn import functional

from models.catalogue import Parameters
from models.catalogue import losses as told
from models.train.losses import build_cross_entropy, pixels_of
from models.train.parts import Loss

Weights = torch.Tensor | None


def build_dice(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """1 - (2 Σ p g + s) / (Σ p² + Σ g² + s)"""
    assert isinstance(parameters, told.Overlap)
    smoothing = parameters.smoothing

    def loss(shares: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        both = (shares * wanted).sum(dim=0)
        areas = shares.square().sum(dim=0) + wanted.sum(dim=0)
        return (1 - (2 * both + smoothing) / (areas + smoothing)).mean()

    return _with_cross_entropy(_of_shares(loss), parameters.cross_entropy_weight, class_weights)


def build_tversky(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """1 - (Σ p g + s) / (Σ p g + a Σ p (1 - g) + b Σ (1 - p) g + s), a and b alpha and beta"""
    assert isinstance(parameters, told.Tversky)
    alpha, beta, smoothing = parameters.alpha, parameters.beta, parameters.smoothing

    def loss(shares: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        both = (shares * wanted).sum(dim=0)
        wrong, missed = shares.sum(dim=0) - both, wanted.sum(dim=0) - both
        return (1 - (both + smoothing) / (both + alpha * wrong + beta * missed + smoothing)).mean()

    return _with_cross_entropy(_of_shares(loss), parameters.cross_entropy_weight, class_weights)


def build_lovasz(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """Σ_i m_i Δ_i, m the errors from the largest to the smallest, Δ_i by how much the i-th lets the Jaccard
    distance grow. Errors are |g - p| of labels that are there; with one label max(0, 1 - z (2 g - 1))."""
    assert isinstance(parameters, told.Lovasz)

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        pixels, labels = pixels_of(logits, targets)
        if pixels.shape[1] == 1:
            wanted = labels.to(pixels.dtype)
            return _extended(functional.relu(1 - pixels[:, 0] * (2 * wanted - 1)), wanted)
        shares = pixels.softmax(dim=1)
        costs = []
        for label in torch.unique(labels).tolist():
            wanted = (labels == label).to(shares.dtype)
            costs.append(_extended((wanted - shares[:, label]).abs(), wanted))
        return torch.stack(costs).mean() if costs else logits.sum() * 0

    return _with_cross_entropy(loss, parameters.cross_entropy_weight, class_weights)


def _extended(errors: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The Lovász extension of the Jaccard distance at errors (pixels,); the label is where `wanted` is 1."""
    ordered, places = errors.sort(descending=True, stable=True)
    sorted_wanted = wanted[places]
    total = sorted_wanted.sum()
    left = total - sorted_wanted.cumsum(dim=0)
    union = total + (1 - sorted_wanted).cumsum(dim=0)
    distance = 1 - left / union
    return (ordered * torch.diff(distance, prepend=distance.new_zeros(1))).sum()


def _of_shares(loss: Loss) -> Loss:
    """A loss of shares and what they should be, (pixels, c) both, as one of logits and targets."""

    def of_logits(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        pixels, labels = pixels_of(logits, targets)
        if pixels.shape[1] == 1:
            return loss(pixels.sigmoid(), labels[:, None].to(pixels.dtype))
        return loss(pixels.softmax(dim=1), functional.one_hot(labels, pixels.shape[1]).to(pixels.dtype))

    return of_logits


def _with_cross_entropy(loss: Loss, weight: float, class_weights: Weights) -> Loss:
    if not weight:
        return loss
    cross_entropy = build_cross_entropy(Parameters(), class_weights=class_weights)
    return lambda logits, targets: loss(logits, targets) + weight * cross_entropy(logits, targets)
