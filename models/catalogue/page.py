"""`docs/catalogue.md`, written from the rows: `python -m models.catalogue.page` (a test holds it to them)."""

from collections.abc import Iterable
from pathlib import Path

from models.catalogue import CATALOGUE
from models.catalogue.row import Kind, Proof, Row

PAGE = Path(__file__).parents[2] / "docs" / "catalogue.md"
_HEAD = f"""# Catalogue

Every method that a training job can name. A row's proof says how far the tests carry it:
{" < ".join(f"`{level}`" for level in Proof)}. `GET /v1/catalog` gives the same with each parameter's bounds;
[adding a method](adding-a-method.md) says how a row comes in. This page is written from the rows.
"""

_NOTES = {
    Kind.ARCHITECTURE: """The tests build every network with all its shapes. The whole way, from training
to an answer, goes the smallest network of each family; its larger siblings are said to serve because of it.

"""
}


def render() -> str:
    """The whole page."""
    parts = [_HEAD]
    for kind in Kind:
        rows = CATALOGUE.find(kind=kind)
        parts.append(f"## {kind.capitalize()} ({len(rows)})\n\n{_NOTES.get(kind, '')}{_table(rows)}")
    return "\n".join(parts)


def _table(rows: Iterable[Row]) -> str:
    lines = ["| id | name | parameters | paper | proof |", "|---|---|---|---|---|"]
    lines += [
        f"| `{row.id}` | {row.name} | {_parameters(row)} | {row.paper or ''} | {row.proof} |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def _parameters(row: Row) -> str:
    fields = row.parameters.model_fields
    return ", ".join(f"`{name}` = {field.get_default()!r}" for name, field in fields.items())


if __name__ == "__main__":
    PAGE.write_text(render())
