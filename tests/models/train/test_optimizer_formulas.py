"""The first steps of every optimiser against its paper's formula, in numpy's double precision."""

import numpy as np
import pytest
import torch

from models.catalogue import CATALOGUE, Kind
from models.train.parts import ParameterGroup

STEPS = 7
RATE, DECAY = 0.05, 0.1


def adamw(p, gradients, *, b1=0.9, b2=0.999, e=1e-8):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        p = p * (1 - RATE * DECAY)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - RATE * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + e)
    return p


def adam(p, gradients, *, b1=0.9, b2=0.999, e=1e-8):
    m = v = 0.0
    for t, slope in enumerate(gradients, 1):
        g = slope + DECAY * p
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - RATE * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + e)
    return p


def amsgrad(p, gradients, *, b1=0.9, b2=0.999, e=1e-8):
    m = v = largest = 0.0
    for t, slope in enumerate(gradients, 1):
        g = slope + DECAY * p
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        largest = np.maximum(largest, v)
        p = p - RATE * (m / (1 - b1**t)) / (np.sqrt(largest / (1 - b2**t)) + e)
    return p


def adamax(p, gradients, *, b1=0.9, b2=0.999, e=1e-8):
    m = u = 0.0
    for t, slope in enumerate(gradients, 1):
        g = slope + DECAY * p
        m, u = b1 * m + (1 - b1) * g, np.maximum(b2 * u, np.abs(g) + e)
        p = p - RATE / (1 - b1**t) * m / u
    return p


def nadam(p, gradients, *, b1=0.9, b2=0.999, e=1e-8, psi=0.004):
    def mu(t):
        return b1 * (1 - 0.5 * 0.96 ** (t * psi))

    m = v = 0.0
    product = 1.0
    for t, g in enumerate(gradients, 1):
        p = p * (1 - RATE * DECAY)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        product *= mu(t)
        ahead = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        p = p - RATE * ahead / (np.sqrt(v / (1 - b2**t)) + e)
    return p


def radam(p, gradients, *, b1=0.9, b2=0.999, e=1e-8):
    m = v = 0.0
    limit = 2 / (1 - b2) - 1
    for t, g in enumerate(gradients, 1):
        p = p * (1 - RATE * DECAY)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        length = limit - 2 * t * b2**t / (1 - b2**t)
        mean = m / (1 - b1**t)
        if length > 5:
            rectified = np.sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))
            p = p - RATE * mean * rectified * np.sqrt(1 - b2**t) / (np.sqrt(v) + e)
        else:
            p = p - RATE * mean
    return p


def sgd(p, gradients, *, mu=0.9, nesterov=True):
    b = None
    for slope in gradients:
        g = slope + DECAY * p
        b = g if b is None else mu * b + g
        p = p - RATE * (g + mu * b if nesterov else b)
    return p


def lion(p, gradients, *, b1=0.9, b2=0.99):
    m = np.zeros_like(p)
    for g in gradients:
        p = p * (1 - RATE * DECAY) - RATE * np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g
    return p


def lamb(p, gradients, *, b1=0.9, b2=0.999, e=1e-6, decay=DECAY, adapts=True):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        u = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + e) + decay * p
        p = p - RATE * u * (np.linalg.norm(p) / np.linalg.norm(u) if adapts else 1.0)
    return p


def adagrad(p, gradients, *, e=1e-10):
    s = 0.0
    for slope in gradients:
        g = slope + DECAY * p
        s = s + g**2
        p = p - RATE * g / (np.sqrt(s) + e)
    return p


def rmsprop(p, gradients, *, a=0.99, e=1e-8):
    v = 0.0
    for slope in gradients:
        g = slope + DECAY * p
        v = a * v + (1 - a) * g**2
        p = p - RATE * g / (np.sqrt(v) + e)
    return p


def adadelta(p, gradients, *, rho=0.9, e=1e-6):
    v = d = 0.0
    for slope in gradients:
        g = slope + DECAY * p
        v = rho * v + (1 - rho) * g**2
        move = np.sqrt(d + e) / np.sqrt(v + e) * g
        d = rho * d + (1 - rho) * move**2
        p = p - RATE * move
    return p


FORMULAS = {
    "adamw": adamw,
    "adam": adam,
    "amsgrad": amsgrad,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "sgd": sgd,
    "lion": lion,
    "lamb": lamb,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
}


def moved(method, start, gradients, *, decay=DECAY, **parameters):
    row = CATALOGUE.get(Kind.OPTIMIZER, method)
    parameter = torch.nn.Parameter(torch.from_numpy(start.astype(np.float32)))
    group = ParameterGroup(parameters=[parameter], weight_decay=decay)
    told = row.parameters.model_validate(parameters)
    optimizer = row.build()([group], told, learning_rate=RATE)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient.astype(np.float32))
        optimizer.step()
    return parameter.detach().numpy()


def problem():
    random = np.random.default_rng(3)
    start = random.standard_normal((4, 5)).astype(np.float32).astype(np.float64)
    gradients = [random.standard_normal((4, 5)).astype(np.float32).astype(np.float64) for _ in range(STEPS)]
    return start, gradients


def test_every_optimiser_of_the_catalogue_has_a_formula_here():
    assert sorted(FORMULAS) == sorted(row.id for row in CATALOGUE.find(kind=Kind.OPTIMIZER))
    assert len(FORMULAS) == 12


@pytest.mark.parametrize("method", FORMULAS)
def test_the_first_steps_are_the_formula_s(method):
    start, gradients = problem()
    np.testing.assert_allclose(moved(method, start, gradients), FORMULAS[method](start, gradients), atol=2e-6)


@pytest.mark.parametrize(
    ("told", "formula"),
    [({"nesterov": False}, {"nesterov": False}), ({"momentum": 0.0}, {"mu": 0.0})],
)
def test_sgd_is_told_about_its_momentum(told, formula):
    start, gradients = problem()
    np.testing.assert_allclose(
        moved("sgd", start, gradients, **told), sgd(start, gradients, **formula), atol=2e-6
    )


def test_lamb_moves_what_has_no_decay_as_adam_does():
    start, gradients = problem()
    np.testing.assert_allclose(
        moved("lamb", start, gradients, decay=0.0),
        lamb(start, gradients, decay=0.0, adapts=False),
        atol=2e-6,
    )


def test_the_rate_of_a_group_is_scaled():
    row = CATALOGUE.get(Kind.OPTIMIZER, "sgd")
    groups = [
        ParameterGroup(parameters=[torch.nn.Parameter(torch.zeros(1))], weight_decay=0.0, rate_scale=scale)
        for scale in (1.0, 16.0)
    ]
    optimizer = row.build()(groups, row.parameters(), learning_rate=0.01)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.16]
