"""What the numbers in masks mean.

| labels            | numbers                                    | in a pack                  |
|-------------------|--------------------------------------------|----------------------------|
| none, or one      | 0 and 1; or 0 and 255, where no mask has a 1 | 0 is not it, 1 is        |
| two and more      | indices into the labels                    | the same                   |
| none              | otherwise: 0 to the highest, named so      | the same                   |

255 otherwise says nothing: such pixels neither train nor count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.pack import IGNORED
from models.data.problems import DataRefused, Problem

FOREGROUND = "foreground"
"""The label of masks that say nothing but yes and no."""

Counts = NDArray[np.int64]
"""(256,): pixels by number."""


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """Labels, and how masks' numbers become levels of a pack."""

    labels: tuple[str, ...]
    is_white: bool = False
    """255 is the one label."""

    @property
    def count(self) -> int:
        """Levels that mean something."""
        return max(2, len(self.labels))

    @property
    def levels(self) -> NDArray[np.uint8]:
        """(256,): the level of each number."""
        levels = np.arange(256, dtype=np.uint8)
        if self.is_white:
            levels[IGNORED] = 1
        return levels

    def problem_of(self, counts: Counts) -> tuple[str, str] | None:
        """Why a mask with such numbers cannot be used, and what to do; None when it can."""
        used = np.flatnonzero(counts)
        wrong = [int(number) for number in used if number >= self.count and number != IGNORED]
        if wrong:
            shown = ", ".join(map(str, wrong[:5])) + (", …" if len(wrong) > 5 else "")
            is_one = len(self.labels) == 1
            known = f"there is one label, {self.labels[0]!r}" if is_one else f"there are {self.count} labels"
            return (
                f"The mask holds the number{'s' if len(wrong) > 1 else ''} {shown}, and {known}.",
                f"Numbers are 0 to {self.count - 1}, and 255 for pixels that say nothing.",
            )
        if not self.is_white and used.tolist() == [IGNORED]:
            return "Every pixel of the mask is 255, which says nothing.", "Take the pair out."
        return None

    def pixels(self, counts: Counts) -> NDArray[np.int64]:
        """(count + 1,): pixels by level, the ignored ones last."""
        found = counts[: self.count].copy()
        if self.is_white:
            found[1] += counts[IGNORED]
        return np.append(found, 0 if self.is_white else counts[IGNORED])

    def has(self, counts: Counts) -> set[int]:
        """Indices of the labels that a mask has pixels of."""
        found = self.pixels(counts)[:-1]
        return {int(label) for label in np.flatnonzero(found[1:] if len(self.labels) == 1 else found)}


def find_labelling(
    given: Sequence[tuple[str, tuple[str, ...]]], counts: Counts, *, previous: tuple[str, ...] | None
) -> Labelling:
    """What the numbers mean: by files' own labels, those of the version before, or the numbers themselves.

    Args:
        given: names of files and the labels that each names; empty where it names none.
        counts: pixels of all masks together, by number.
        previous: labels of the version that is added to.

    Raises:
        DataRefused: files name different labels.

    """
    labels = previous
    for file, named in given:
        if labels and named and named != labels:
            raise DataRefused(
                [
                    Problem(
                        file=file,
                        message=f"It names the labels {_listed(named)}, others {_listed(labels)}.",
                        hint="All files of a data set, and its versions, have the same labels in one order.",
                    )
                ]
            )
        labels = labels or named or None
    used = [int(number) for number in np.flatnonzero(counts) if number != IGNORED]
    if labels is None:
        highest = max(used, default=0)
        labels = (FOREGROUND,) if highest <= 1 else tuple(str(number) for number in range(highest + 1))
    is_white = len(labels) == 1 and 1 not in used and bool(counts[IGNORED])
    return Labelling(labels=labels, is_white=is_white)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:5])) + (", …" if len(labels) > 5 else "")
