"""Every loss against its formula, in numpy's double precision."""

import numpy as np
import pytest
import torch

from models.catalogue import CATALOGUE, Kind
from models.catalogue.losses import LOSSES
from models.manifest import Task


def shares_of(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(logits, wanted):
    return -(wanted * np.log(shares_of(logits)))


def label_smoothing(logits, wanted):
    return cross_entropy(logits, 0.9 * wanted + 0.1 / logits.shape[1])


def focal(logits, wanted):
    return (1 - shares_of(logits)) ** 2 * cross_entropy(logits, wanted)


def bce(logits, wanted):
    odds = 1 / (1 + np.exp(-logits))
    return -(wanted * np.log(odds) + (1 - wanted) * np.log(1 - odds))


def poly1(logits, wanted):
    return cross_entropy(logits, wanted) + wanted * (1 - shares_of(logits))


def generalised_cross_entropy(logits, wanted):
    return wanted * (1 - shares_of(logits) ** 0.7) / 0.7


FORMULAS = {
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
    "focal": focal,
    "bce": bce,
    "poly1": poly1,
    "generalised_cross_entropy": generalised_cross_entropy,
}
WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0])
PER_LABEL = {"cross_entropy", "label_smoothing"}
"""Losses whose weights go to the terms of the sum over labels; the others' to the picture's whole."""


def problem(classes=4, pictures=6):
    random = np.random.default_rng(11)
    return 3 * random.standard_normal((pictures, classes)), random.integers(0, classes, pictures)


def loss_of(method, logits, targets, *, weights=None, **parameters):
    row = CATALOGUE.get(Kind.LOSS, method)
    class_weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)
    loss = row.build()(row.parameters.model_validate(parameters), class_weights=class_weights)
    return loss(logits, targets)


def test_every_loss_of_the_catalogue_has_a_formula_here():
    assert sorted(FORMULAS) == sorted(
        row.id for row in CATALOGUE.find(kind=Kind.LOSS, task=Task.CLASSIFICATION)
    )
    assert len(FORMULAS) == 6


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", FORMULAS)
def test_a_loss_is_its_formula(method, weighted):
    logits, targets = problem()
    terms = FORMULAS[method](logits, np.eye(4)[targets])
    if weighted:
        terms = terms * (WEIGHTS if method in PER_LABEL else WEIGHTS[targets][:, None])
    got = loss_of(
        method,
        torch.tensor(logits, dtype=torch.float32),
        torch.tensor(targets),
        weights=WEIGHTS if weighted else None,
    )
    assert float(got) == pytest.approx(terms.sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", [row.id for row in LOSSES if row.takes_shares])
def test_a_mixable_loss_takes_shares(method, weighted):
    logits, _ = problem()
    wanted = np.random.default_rng(2).dirichlet(np.ones(4), 6)
    terms = FORMULAS[method](logits, wanted) * (WEIGHTS if weighted else 1.0)
    got = loss_of(
        method,
        torch.tensor(logits, dtype=torch.float32),
        torch.tensor(wanted, dtype=torch.float32),
        weights=WEIGHTS if weighted else None,
    )
    assert float(got) == pytest.approx(terms.sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("method", FORMULAS)
def test_the_slope_is_that_of_the_formula(method):
    logits, targets = problem()
    wanted, step = np.eye(4)[targets], 1e-6
    slopes = np.zeros_like(logits)
    for at in np.ndindex(logits.shape):
        nudge = np.zeros_like(logits)
        nudge[at] = step
        up, down = (FORMULAS[method](logits + way * nudge, wanted).sum(axis=1).mean() for way in (1, -1))
        slopes[at] = (up - down) / (2 * step)
    given = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    loss_of(method, given, torch.tensor(targets)).backward()
    np.testing.assert_allclose(given.grad.numpy(), slopes, atol=1e-6)


@pytest.mark.parametrize("method", FORMULAS)
def test_hopeless_and_perfect_logits_have_finite_slopes(method):
    given = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss_of(method, given, torch.tensor([0, 0])).backward()
    assert torch.isfinite(given.grad).all()


def test_focal_loss_takes_a_fraction_of_a_power():
    given = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss_of("focal", given, torch.tensor([0]), gamma=0.5).backward()
    assert torch.isfinite(given.grad).all()


def test_generalised_cross_entropy_lies_between_cross_entropy_and_one_minus_p():
    logits, targets = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3
    own = torch.softmax(logits, dim=1)[torch.arange(5), targets]
    near, far = (loss_of("generalised_cross_entropy", logits, targets, q=q) for q in (1e-4, 1.0))
    assert float(near) == pytest.approx(float(loss_of("cross_entropy", logits, targets)), rel=1e-3)
    assert float(far) == pytest.approx(float((1 - own).mean()), rel=1e-5)
