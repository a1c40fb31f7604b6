"""Losses of segmentation against their formulas, pixel by pixel in numpy's double precision."""

import numpy as np
import pytest
import torch

from models.catalogue import CATALOGUE, Kind
from models.manifest import Task
from tests.models.train.tiny_masks import maps

IGNORED = 255


def pixels_of(logits, targets):
    """Lists of (logits of a pixel, its target), those that count."""
    found = []
    for n, row, column in np.ndindex(targets.shape):
        if targets[n, row, column] != IGNORED:
            found.append((logits[n, :, row, column], int(targets[n, row, column])))
    return found


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def shares_of(logits, targets):
    """Shares and what they should be, (pixels, labels)."""
    pixels = pixels_of(logits, targets)
    if logits.shape[1] == 1:
        shares = [[1 / (1 + np.exp(-one[0]))] for one, _ in pixels]
        return np.array(shares), np.array([[float(target)] for _, target in pixels])
    wanted = np.eye(logits.shape[1])[[target for _, target in pixels]]
    return np.array([softmax(one) for one, _ in pixels]), wanted


def own_shares(logits, targets):
    """Of each pixel's own label; with one label, of being it or not."""
    shares, wanted = shares_of(logits, targets)
    if shares.shape[1] == 1:
        shares, wanted = np.hstack([1 - shares, shares]), np.hstack([1 - wanted, wanted])
    return (shares * wanted).sum(axis=1)


def cross_entropy(logits, targets):
    return -np.log(own_shares(logits, targets)).mean()


def focal(logits, targets):
    own = own_shares(logits, targets)
    return ((1 - own) ** 2 * -np.log(own)).mean()


def bce(logits, targets):
    costs = []
    for one, target in pixels_of(logits, targets):
        odds = 1 / (1 + np.exp(-one))
        wanted = np.array([float(target)]) if len(one) == 1 else np.eye(len(one))[target]
        costs.append(-(wanted * np.log(odds) + (1 - wanted) * np.log(1 - odds)).sum())
    return np.mean(costs)


def dice(logits, targets):
    shares, wanted = shares_of(logits, targets)
    terms = [
        1 - (2 * (p * g).sum() + 1) / ((p**2).sum() + (g**2).sum() + 1)
        for p, g in zip(shares.T, wanted.T, strict=True)
    ]
    return np.mean(terms)


def tversky(logits, targets):
    shares, wanted = shares_of(logits, targets)
    terms = [
        1 - ((p * g).sum() + 1) / ((p * g).sum() + 0.3 * (p * (1 - g)).sum() + 0.7 * ((1 - p) * g).sum() + 1)
        for p, g in zip(shares.T, wanted.T, strict=True)
    ]
    return np.mean(terms)


def jaccard_distance(wanted, wrong):
    """1 - intersection over union of the label with the answer that is wrong where `wrong` says so."""
    answer = np.where(wrong, 1 - wanted, wanted)
    union = np.maximum(answer, wanted).sum()
    return 0.0 if union == 0 else 1 - (answer * wanted).sum() / union


def extended(errors, wanted):
    """The Lovász extension by its definition: the distance of growing sets of the worst pixels."""
    order = np.argsort(-errors, kind="stable")
    total, before, wrong = 0.0, 0.0, np.zeros(len(errors), bool)
    for at in order:
        wrong[at] = True
        after = jaccard_distance(wanted, wrong)
        total += errors[at] * (after - before)
        before = after
    return total


def lovasz(logits, targets):
    if logits.shape[1] == 1:
        pixels = pixels_of(logits, targets)
        wanted = np.array([target for _, target in pixels], float)
        margins = np.array([1 - one[0] * (2 * target - 1) for one, target in pixels])
        return extended(np.maximum(margins, 0), wanted)
    shares, wanted = shares_of(logits, targets)
    there = [label for label in range(shares.shape[1]) if wanted[:, label].any()]
    return np.mean([extended(np.abs(wanted - shares)[:, label], wanted[:, label]) for label in there])


FORMULAS = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "bce": bce,
    "dice": dice,
    "tversky": tversky,
    "lovasz": lovasz,
}


def loss_of(method, logits, targets, *, weights=None, **parameters):
    row = CATALOGUE.get(Kind.LOSS, method)
    class_weights = None if weights is None else torch.tensor(weights)
    loss = row.build()(row.parameters.model_validate(parameters), class_weights=class_weights)
    return loss(logits, targets)


def problem(labels, *, ignored=True):
    logits = maps((2, labels, 5, 4), seed=labels)
    chance = np.random.default_rng(labels)
    targets = chance.integers(0, max(2, labels - 1), (2, 5, 4))  # of three and more, the last is nowhere
    if ignored:
        targets[0, :2] = IGNORED
    return logits, torch.tensor(targets)


def test_every_loss_for_maps_has_a_formula_here():
    known = [row.id for row in CATALOGUE.find(kind=Kind.LOSS, task=Task.SEGMENTATION)]
    assert sorted(FORMULAS) == sorted(known)
    assert len(known) == 6


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("labels", [1, 2, 4])
@pytest.mark.parametrize("method", FORMULAS)
def test_a_loss_is_its_formula(method, labels, ignored):
    logits, targets = problem(labels, ignored=ignored)
    expected = FORMULAS[method](logits.double().numpy(), targets.numpy())
    assert float(loss_of(method, logits, targets)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("method", FORMULAS)
def test_the_slope_is_that_of_the_formula(method, labels):
    logits, targets = problem(labels)
    given = logits.clone().requires_grad_()
    loss_of(method, given, targets).backward()
    plain, step = logits.double().numpy(), 1e-6
    for at in list(np.ndindex(plain.shape))[:: 5 if labels == 1 else 13]:
        nudge = np.zeros_like(plain)
        nudge[at] = step
        up, down = (FORMULAS[method](plain + way * nudge, targets.numpy()) for way in (1, -1))
        assert float(given.grad[at]) == pytest.approx((up - down) / (2 * step), abs=2e-6)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("method", FORMULAS)
def test_masks_that_say_nothing_cost_nothing_and_break_nothing(method, labels):
    logits = maps((1, labels, 3, 3)).requires_grad_()
    loss = loss_of(method, logits, torch.full((1, 3, 3), IGNORED))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("method", FORMULAS)
def test_hopeless_and_perfect_maps_have_finite_slopes(method):
    logits = torch.tensor([[[[200.0, -200.0]], [[-200.0, 200.0]]]], requires_grad=True)
    loss_of(method, logits, torch.tensor([[[0, 0]]])).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("method", ["dice", "tversky", "lovasz"])
def test_cross_entropy_can_be_added(method):
    logits, targets = problem(3)
    both = loss_of(method, logits, targets, cross_entropy_weight=0.5)
    apart = loss_of(method, logits, targets) + 0.5 * loss_of("cross_entropy", logits, targets)
    assert float(both) == pytest.approx(float(apart), rel=1e-6)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("method", ["cross_entropy", "focal", "bce"])
def test_each_pixel_weighs_what_its_label_does(method, labels):
    logits, targets = problem(labels)
    weights = [1.0, 5.0] if labels == 1 else [1.0, 5.0, 0.5]
    expected = 0.0
    for label, weight in enumerate(weights):
        of_label = np.where(targets.numpy() == label, label, IGNORED)
        if count := (of_label == label).sum():
            expected += weight * count * FORMULAS[method](logits.double().numpy(), of_label)
    expected /= (targets != IGNORED).sum().item()
    assert float(loss_of(method, logits, targets, weights=weights)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", ["dice", "tversky", "lovasz"])
def test_of_an_area_loss_weights_are_of_its_cross_entropy(method):
    logits, targets = problem(3)
    weights = [1.0, 5.0, 0.5]
    both = loss_of(method, logits, targets, weights=weights, cross_entropy_weight=0.5)
    added = loss_of("cross_entropy", logits, targets, weights=weights)
    assert float(both) == pytest.approx(float(loss_of(method, logits, targets) + 0.5 * added), rel=1e-6)
