"""Look-up of rows, with the nearest names for what is not there."""

from collections.abc import Iterator
from difflib import get_close_matches

from models.catalogue.row import Kind, Row
from models.manifest import Task


class UnknownMethod(LookupError):
    """No row of this kind has this id; `nearest` are those that look like it, best first."""

    def __init__(self, kind: Kind, given: str, nearest: list[str]) -> None:
        super().__init__(f"There is no {kind} {given!r}.")
        self.kind = kind
        self.nearest = nearest


class Catalogue:
    """An ordered, immutable set of rows."""

    def __init__(self, *rows: Row) -> None:
        """Raises ValueError when two rows of a kind have one id."""
        self._rows: dict[tuple[Kind, str], Row] = {}
        for row in rows:
            if (row.kind, row.id) in self._rows:
                raise ValueError(f"two rows of kind {row.kind} are called {row.id!r}")
            self._rows[row.kind, row.id] = row

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, kind: Kind, method: str) -> Row:
        """The row of this id. Raises UnknownMethod."""
        row = self._rows.get((kind, method))
        if row is None:
            ids = [known for of_kind, known in self._rows if of_kind is kind]
            nearest = get_close_matches(method.lower(), ids, n=3, cutoff=0.5) or ids[:3]
            raise UnknownMethod(kind, method, nearest)
        return row

    def find(self, *, kind: Kind | None = None, task: Task | None = None, text: str = "") -> list[Row]:
        """Rows that fit all that is given; `text` is looked for in id, name and paper, whatever its case."""
        wanted = text.casefold()
        return [
            row
            for row in self
            if (kind is None or row.kind is kind)
            and (task is None or task in row.tasks)
            and wanted in f"{row.id} {row.name} {row.paper or ''}".casefold()
        ]
