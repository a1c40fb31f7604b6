"""Losses of super-resolution against their formulas, in numpy's double precision."""

import numpy as np
import pytest
import torch

from models.catalogue import CATALOGUE, Kind
from models.manifest import Task

SHAPE = (2, 3, 15, 17)


def made_and_wanted():
    chance = np.random.default_rng(7)
    wanted = chance.random(SHAPE)
    return wanted + chance.normal(0, 0.2, SHAPE), wanted


def l1(made, wanted):
    return np.abs(made - wanted).mean()


def mse(made, wanted):
    return ((made - wanted) ** 2).mean()


def charbonnier(made, wanted, epsilon=1e-3):
    return np.sqrt((made - wanted) ** 2 + epsilon**2).mean()


def ssim(made, wanted, l1_weight=0.0):
    cut = np.clip(made, 0, 1)
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 4.5)
    window /= window.sum()
    values = []
    for n, colour in np.ndindex(SHAPE[:2]):
        for row, column in np.ndindex(SHAPE[2] - 10, SHAPE[3] - 10):
            place = np.s_[n, colour, row : row + 11, column : column + 11]
            x, y = cut[place], wanted[place]
            mean_x, mean_y = (window * x).sum(), (window * y).sum()
            both = (window * (x - mean_x) * (y - mean_y)).sum()
            spread = (window * ((x - mean_x) ** 2 + (y - mean_y) ** 2)).sum()
            above = (2 * mean_x * mean_y + 0.01**2) * (2 * both + 0.03**2)
            values.append(above / ((mean_x**2 + mean_y**2 + 0.01**2) * (spread + 0.03**2)))
    return 1 - np.mean(values) + l1_weight * l1(made, wanted)


FORMULAS = {"l1": l1, "mse": mse, "charbonnier": charbonnier, "ssim": ssim}
TOLD = [("l1", {}), ("mse", {}), ("charbonnier", {}), ("charbonnier", {"epsilon": 0.3}), ("ssim", {})]
TOLD.append(("ssim", {"l1_weight": 0.5}))


def loss_of(method, parameters):
    row = CATALOGUE.get(Kind.LOSS, method)
    return row.build()(row.parameters.model_validate(parameters), class_weights=None)


def test_every_loss_of_the_task_has_a_formula_here():
    rows = CATALOGUE.find(kind=Kind.LOSS, task=Task.SUPER_RESOLUTION)
    assert [row.id for row in rows] == list(FORMULAS)
    assert len(rows) == 4


@pytest.mark.parametrize(("method", "parameters"), TOLD)
def test_a_loss_is_its_formula(method, parameters):
    made, wanted = made_and_wanted()
    found = loss_of(method, parameters)(torch.tensor(made), torch.tensor(wanted))
    assert float(found) == pytest.approx(FORMULAS[method](made, wanted, **parameters), rel=1e-9)


@pytest.mark.parametrize("method", FORMULAS)
def test_of_a_larger_picture_the_middle_counts(method):
    made, wanted = (torch.tensor(one) for one in made_and_wanted())
    around = torch.nn.functional.pad(wanted, (4, 4, 6, 6), value=9.0)
    loss = loss_of(method, {})
    assert float(loss(made, around)) == float(loss(made, wanted))


@pytest.mark.parametrize("method", FORMULAS)
def test_it_is_least_for_what_is_wanted_and_has_slopes(method):
    made, wanted = (torch.tensor(one) for one in made_and_wanted())
    made.requires_grad_()
    loss = loss_of(method, {})
    loss(made, wanted).backward()
    assert bool(torch.isfinite(made.grad).all())
    assert float(made.grad.abs().sum()) > 0
    assert 0 <= float(loss(wanted, wanted)) <= 1.01e-3 < float(loss(made.detach(), wanted))
