"""The same picture more than once: one copy stays."""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol, TypeVar

from models.data.pack import Item, Split
from models.data.report import Duplicate

_RANK: Final = {None: 0, Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}


class Copy(Protocol):
    """What must be known of a picture."""

    @property
    def name(self) -> str:
        """In the pack, where no two have the same."""

    @property
    def split(self) -> Split | None:
        """Where its source says it belongs."""

    @property
    def sha256(self) -> str:
        """Of its bytes."""


C = TypeVar("C", bound=Copy)


def copies_of_others(pictures: Sequence[C], before: Sequence[Item]) -> Iterator[tuple[int, C | Item]]:
    """The places of those that are another's copy, and that other, which stays: the one in the earlier split;
    one in the version before comes first."""
    first: dict[str, C | Item] = {item.sha256: item for item in before}
    for at in sorted(range(len(pictures)), key=lambda at: _RANK[pictures[at].split]):
        picture = pictures[at]
        kept = first.setdefault(picture.sha256, picture)
        if kept is not picture:
            yield at, kept


def duplicate_of(picture: Copy, kept: Copy) -> Duplicate:
    """What a report says of a copy."""
    is_across = None not in (picture.split, kept.split) and picture.split is not kept.split
    return Duplicate(name=picture.name, same_as=kept.name, is_across_splits=is_across)
