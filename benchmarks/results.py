"""Where figures are kept: a file of JSON lines, each shown and on disk as soon as it is known."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path


class Results:
    """Appends to a file. A run that breaks off has kept all that it had measured."""

    def __init__(self, path: Path, facts: Mapping[str, object]) -> None:
        """`facts`: what every line says beside its own, such as the commit and the machine."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._facts = facts

    def write(self, kind: str, **values: object) -> None:
        """Append one line."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"at": now, "kind": kind, **self._facts, **values})
        print(line, flush=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
