"""Fields that are described by the docstrings under them, which are read when a schema is asked for.

pydantic's own `use_attribute_docstrings` reads the source of each class that is defined: a tenth of a second
of every start.
"""

import ast
from functools import cache
from inspect import cleandoc, getsource
from textwrap import dedent
from typing import Any

from pydantic import BaseModel


def with_docstrings(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """As `json_schema_extra`: give each property the docstring of its field, the nearest class's first."""
    for base in model.__mro__:
        if issubclass(base, BaseModel) and base is not BaseModel:
            for name, text in _docstrings(base).items():
                schema.get("properties", {}).get(name, {}).setdefault("description", text)


@cache
def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Of the fields that this class itself has; none where its source is not at hand."""
    try:
        (tree,) = ast.parse(dedent(getsource(model))).body
    except (OSError, TypeError, SyntaxError):  # removed, or replaced by another's, since the start
        return {}
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: cleandoc(said.value.value)
        for field, said in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(said, ast.Expr)
        and isinstance(said.value, ast.Constant)
        and isinstance(said.value.value, str)
    }
