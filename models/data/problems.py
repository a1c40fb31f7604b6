"""What is wrong with a data set, in words that say where."""

from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from models.data.archive_rules import ArchiveRefused
from models.described import with_docstrings

MAX_PROBLEMS: Final = 10_000
"""Named one by one; more are counted."""

T = TypeVar("T")


class Noted(Generic[T]):
    """A list that a hostile file cannot make endless: it keeps the first, and counts the rest."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self.items: list[T] = []
        self.count = 0
        for item in items:
            self.add(item)

    def add(self, item: T) -> None:
        """Note one."""
        self.count += 1
        if len(self.items) < MAX_PROBLEMS:
            self.items.append(item)

    def extend(self, other: "Noted[T]") -> None:
        """Note all of another list."""
        self.items += other.items[: MAX_PROBLEMS - len(self.items)]
        self.count += other.count

    def __bool__(self) -> bool:
        return self.count > 0


class Problem(BaseModel):
    """One mistake."""

    model_config = ConfigDict(frozen=True, json_schema_extra=with_docstrings)

    file: str
    """The image, manifest or archive it is in."""
    message: str
    line: int | None = None
    """Line of a manifest, row of a Parquet file; from 1."""
    hint: str | None = None

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.message}" + (f" {self.hint}" if self.hint else "")


class LeftOut(BaseModel):
    """A file that is not in the data set, and need not be."""

    model_config = ConfigDict(frozen=True)

    file: str
    reason: str


def skip(broken: Noted[Problem], left_out: Noted[LeftOut]) -> None:
    """Leave out what is broken, instead of refusing it all."""
    for problem in broken.items:
        file = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        left_out.add(LeftOut(file=file, reason=problem.message))
    left_out.count += broken.count - len(broken.items)


class DataRefused(ValueError):
    """The files make no data set. `problems` has at least one; `count` says how many there were in all."""

    def __init__(self, problems: Sequence[Problem], *, count: int | None = None) -> None:
        self.count = len(problems) if count is None else count
        self.problems = tuple(problems[:MAX_PROBLEMS])
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        super().__init__(f"{self.problems[0]}{more}")

    @classmethod
    def from_archive(cls, refused: ArchiveRefused, archive_name: str) -> "DataRefused":
        """The same refusal as a problem of the archive, or of the member that it names."""
        return cls([Problem(file=refused.name or archive_name, message=refused.message, hint=refused.hint)])
