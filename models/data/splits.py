"""Which image is for what: seeded, stratified, and given splits kept.

The order in which a label's images are dealt out is that of SHA-256(seed : image's SHA-256). It depends on
neither names nor archive order nor a library's generator, so the same images with the same seed are split the
same way on every machine and in every release.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from models.data.pack import Split

_LEAST: Final = {Split.VALIDATION: 2, Split.TEST: 5}
"""A label with fewer images has none in that split; from here on it has at least one."""


class Unsplit(NamedTuple):
    """An image that has to go into a split."""

    label: int
    sha256: str
    given: Split | None
    """Where its source says it belongs."""


class Shares(NamedTuple):
    """Of a label's images, 0..1. The rest is for training."""

    validation: float
    test: float


def assign_splits(
    images: Sequence[Unsplit],
    shares: Shares,
    *,
    seed: int,
    settled: Mapping[tuple[int, Split], int] | None = None,
) -> list[Split]:
    """One split for each image, in their order.

    Given splits are kept, but for two: images that are all given to training are dealt out as if nothing had
    been said, and when a test split is given without one for validation, that one comes out of training.

    Args:
        images: those to place.
        shares: of each label, counted with what is settled.
        seed: another one deals differently.
        settled: images per label and split of the version before, which stay where they are.

    """
    settled = settled or {}
    given = {image.given for image in images if image.given} | {split for _, split in settled}
    is_train_free = Split.VALIDATION not in given
    if is_train_free and Split.TEST in given:
        shares = shares._replace(test=0.0)
    splits: list[Split] = []
    free: defaultdict[int, list[int]] = defaultdict(list)
    placed = Counter(settled)
    for at, image in enumerate(images):
        splits.append(image.given or Split.TRAIN)
        if image.given is None or (image.given is Split.TRAIN and is_train_free):
            free[image.label].append(at)
        else:
            placed[image.label, image.given] += 1
    for label, members in free.items():
        members.sort(key=lambda at: hashlib.sha256(f"{seed}:{images[at].sha256}".encode()).digest())
        for at, split in zip(members, _deal(len(members), label, placed, shares), strict=True):
            splits[at] = split
    return splits


def _deal(count: int, label: int, placed: Counter[tuple[int, Split]], shares: Shares) -> list[Split]:
    """The splits of a label's free images, in the order they are dealt."""
    total = count + sum(placed[label, split] for split in Split)
    left = count if placed[label, Split.TRAIN] else count - 1  # training never goes without
    dealt: list[Split] = []
    for split, share in ((Split.VALIDATION, shares.validation), (Split.TEST, shares.test)):
        wanted = round(total * share)
        if share and total >= _LEAST[split]:
            wanted = max(1, wanted)
        missing = min(max(0, wanted - placed[label, split]), left)
        dealt += [split] * missing
        left -= missing
    return dealt + [Split.TRAIN] * (count - len(dealt))
