"""Random numbers that depend on a run's seed and on what they are for, never on what was drawn before."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What numbers are drawn for. The values are part of every run's identity."""

    ORDER = 0
    """Of an epoch's pictures."""
    AUGMENTATION = 1
    """Of one picture."""
    MIXING = 2
    """Of one batch."""
    NETWORK = 3
    """Inside the network, for one step: dropout and its like."""
    DEGRADATION = 4
    """Of one small picture that is validated with."""


def generator(seed: int, purpose: Purpose, *at: int) -> np.random.Generator:
    """Numbers for one place: an epoch, a step, a picture."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, purpose, *at))))


def torch_seed(seed: int, step: int) -> int:
    """For torch's own generator, at the beginning of a step."""
    return int(np.random.SeedSequence((seed, Purpose.NETWORK, step)).generate_state(1, np.uint64)[0] >> 1)
