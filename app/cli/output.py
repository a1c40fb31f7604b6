"""How commands speak: to people by default, in JSON with `--json`. Results on stdout, errors on stderr."""

import json
import sys
from typing import Any


class Output:
    """One command's mouth."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, facts: Any, text: str) -> None:  # noqa: ANN401 - whatever JSON can say
        """The answer: `facts` for machines, `text` for people."""
        sys.stdout.write(f"{json.dumps(facts) if self.as_json else text}\n")
        sys.stdout.flush()

    def error(self, code: str, message: str, hint: str | None = None) -> None:
        """What went wrong, and what to do about it."""
        if self.as_json:
            facts = {"error": {"code": code, "message": message, "hint": hint}}
            sys.stderr.write(f"{json.dumps(facts)}\n")
        else:
            sys.stderr.write(f"athanor: {message}\n" + (f"  {hint}\n" if hint else ""))
