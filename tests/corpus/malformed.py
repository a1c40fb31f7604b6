"""Malformed images without end: mutations of valid files that keep their header, and hostile builds.

The same seed gives the same bytes, so that a failure names its sample by seed and number.
"""

from collections.abc import Callable, Iterator

import numpy as np

from tests.corpus.flag import Sample
from tests.corpus.hostile import hostile_builders
from tests.corpus.valid import valid_images

__all__ = ["Sample", "malformed_images", "valid_images"]

_MUTATIONS_IN_TEN = 7
_HEAD_BYTES = 64
"""What mutations leave alone at the beginning, where the sizes are; a JPEG's are further on."""


def malformed_images(seed: int, count: int) -> Iterator[Sample]:
    """Yield `count` samples; seven of ten are mutations of a valid file behind its header."""
    rng = np.random.default_rng(seed)
    valid = [sample for sample in valid_images(seed) if len(sample.data) > 2 * _HEAD_BYTES]
    hostile = list(hostile_builders().items())
    mutations = list(_MUTATIONS.items())
    for number in range(count):
        if number % 10 < _MUTATIONS_IN_TEN:
            base = valid[rng.integers(len(valid))]
            name, mutate = mutations[rng.integers(len(mutations))]
            start = _header_bytes(base.data)
            yield Sample(f"{name}: {base.kind}", mutate(rng, base.data, start, valid))
        else:
            name, build = hostile[(number // 10 * (10 - _MUTATIONS_IN_TEN) + number % 10) % len(hostile)]
            yield Sample(name, build(rng))


def _header_bytes(data: bytes) -> int:
    if data.startswith(b"\xff\xd8"):
        scan = data.rfind(b"\xff\xda", 0, len(data) // 2 + 1000)
        return min(max(scan + 14, _HEAD_BYTES), len(data) - 20)
    return _HEAD_BYTES


Mutation = Callable[[np.random.Generator, bytes, int, list[Sample]], bytes]


def _truncated(rng: np.random.Generator, data: bytes, start: int, _: list[Sample]) -> bytes:
    return data[: rng.integers(start, len(data))]


def _flipped(rng: np.random.Generator, data: bytes, start: int, _: list[Sample]) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(start, len(data), rng.integers(1, 20)):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _piece(rng: np.random.Generator, data: bytes, start: int) -> tuple[int, int]:
    first = int(rng.integers(start, len(data)))
    return first, min(len(data), first + int(rng.integers(1, max(2, len(data) // 4))))


def _noise(rng: np.random.Generator, data: bytes, start: int, _: list[Sample]) -> bytes:
    first, last = _piece(rng, data, start)
    return data[:first] + rng.bytes(last - first) + data[last:]


def _zeroed(rng: np.random.Generator, data: bytes, start: int, _: list[Sample]) -> bytes:
    first, last = _piece(rng, data, start)
    return data[:first] + bytes(last - first) + data[last:]


def _removed(rng: np.random.Generator, data: bytes, start: int, _: list[Sample]) -> bytes:
    first, last = _piece(rng, data, start)
    return data[:first] + data[last:]


def _doubled(rng: np.random.Generator, data: bytes, start: int, _: list[Sample]) -> bytes:
    first, last = _piece(rng, data, start)
    return data[:last] + data[first:]


def _spliced(rng: np.random.Generator, data: bytes, start: int, others: list[Sample]) -> bytes:
    other = others[rng.integers(len(others))].data
    return data[: rng.integers(start, len(data))] + other[rng.integers(len(other)) :]


def _lying(rng: np.random.Generator, data: bytes, start: int, _: list[Sample]) -> bytes:
    at = int(rng.integers(start, len(data)))
    value = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0")[rng.integers(4)]
    return (data[:at] + value + data[at + 4 :])[: len(data)]


_MUTATIONS: dict[str, Mutation] = {
    "truncated": _truncated,
    "flipped bits": _flipped,
    "noise": _noise,
    "zeroed": _zeroed,
    "removed": _removed,
    "doubled": _doubled,
    "spliced": _spliced,
    "lying sizes": _lying,
}
