"""Requests as people write them: YAML or JSON files, and KEY=VALUE on the command line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

Json = dict[str, Any]


def read_request(path: Path) -> Json:
    """The object in a file; JSON is YAML too. Raises BadParameter with the line."""
    try:
        body = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise typer.BadParameter(f"{path}{where} is no YAML: {getattr(error, 'problem', error)}.") from error
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise typer.BadParameter(f"{path} holds no fields with values.")
    return body


def parse_changes(changes: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """`adapter.r=16` -> ("adapter.r", 16); values are YAML. Raises BadParameter."""
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not all(key.split(".")):
            raise typer.BadParameter(f"{change!r} is no KEY=VALUE.", param_hint="--set")
        try:
            yield key, yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"{value!r} is no YAML.", param_hint="--set") from error


def apply_changes(body: Json, changes: Sequence[str]) -> None:
    """Change fields of a request in place. A method that is only named becomes an object with its name."""
    for key, value in parse_changes(changes):
        *path, last = key.split(".")
        place = body
        for part in path:
            inner = place.get(part)
            place[part] = dict(inner) if isinstance(inner, dict) else {"method": inner} if inner else {}
            place = place[part]
        place[last] = value
