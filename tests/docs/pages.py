"""Read a page of documentation, run its blocks as a reader would, compare what they print.

A block ```` ```sh ```` is run by bash; if a block ```` ```json ```` follows, it is what was printed.
A block ```` ```console ```` holds `$ command` lines, what each prints, and `(exit code N)` unless it is 0.
In expected text `…` stands for anything, alone on a line for any lines, and a number with decimals for one
that is within 0.03.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

TOLERANCE = 0.03
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINES = "⋮"
"""Stands for a line that holds nothing but `…`: any number of lines."""
_NUMBER = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Step:
    """A command of a page, and what the page says it prints."""

    command: str
    expected: str | None
    is_json: bool = False
    code: int = 0


def steps(page: Path) -> list[Step]:
    """All commands of a page, in order."""
    blocks = _FENCE.findall(page.read_text())
    found = []
    for index, (kind, text) in enumerate(blocks):
        if kind == "console":
            found += _console(text)
        elif kind == "sh":
            after = blocks[index + 1] if index + 1 < len(blocks) else ("", "")
            is_json = after[0] == "json"
            found.append(Step(text.strip(), after[1] if is_json else None, is_json=is_json))
    return found


def _console(text: str) -> list[Step]:
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.rstrip("\n").splitlines()
        count = 1
        while lines[count - 1].endswith("\\"):
            count += 1
        printed = [line for line in lines[count:] if line]
        code = 0
        if printed and (match := re.fullmatch(r"\(exit code (\d+)\)", printed[-1])):
            code = int(match[1])
            printed.pop()
        found.append(Step("\n".join(lines[:count]), "\n".join(printed), code=code))
    return found


@dataclass
class Reader:
    """Somebody who follows the pages: where they stand, and what the answers so far have told them."""

    folder: Path
    environment: dict[str, str]

    def follow(self, step: Step) -> None:
        """Run one step; AssertionError says what came instead of what the page shows."""
        ran = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", step.command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        said = f"$ {step.command}\n{ran.stdout}(exit code {ran.returncode})"
        assert ran.returncode == step.code, said
        if step.is_json:
            answer = json.loads(ran.stdout)
            assert_like(answer, json.loads(step.expected or ""), said)
            self._remember(answer)
        elif step.expected is not None:
            assert_text_like(ran.stdout, step.expected, said)

    def _remember(self, answer: object) -> None:
        """`$FILE`, `$JOB` and `$UPLOAD` in later steps are the ids of the ones seen last."""
        kinds = ("file", "job", "upload")
        if isinstance(answer, dict) and "deleted" not in answer:
            kind = str(answer.get("object")).rpartition(".")[2]  # a `fine_tuning.job` is a job too
            if kind in kinds:
                self.environment[kind.upper()] = str(answer["id"])


def assert_like(actual: object, expected: object, said: str) -> None:
    """JSON values are alike: `"…"` is anything, `"…": "…"` any more keys, a last item `"…"` any more."""
    if expected == "…":
        return
    if isinstance(expected, dict) and isinstance(actual, dict):
        named = {key: value for key, value in expected.items() if key != "…"}
        assert named.keys() <= actual.keys() if "…" in expected else named.keys() == actual.keys(), said
        for key, value in named.items():
            assert_like(actual[key], value, said)
    elif isinstance(expected, list) and isinstance(actual, list):
        has_more = expected[-1:] == ["…"]
        items = expected[:-1] if has_more else expected
        assert len(items) <= len(actual) if has_more else len(items) == len(actual), said
        for one, other in zip(actual, items, strict=False):
            assert_like(one, other, said)
    elif isinstance(expected, float):
        assert isinstance(actual, int | float), said
        assert abs(actual - expected) <= TOLERANCE, said
    elif isinstance(expected, str) and "…" in expected:
        assert isinstance(actual, str), said
        assert_text_like(actual, expected, said)
    else:
        assert actual == expected, f"{actual!r} is not {expected!r} in\n{said}"


def assert_text_like(actual: str, expected: str, said: str) -> None:
    """Lines are alike, whatever the width of their columns."""
    marked = re.sub(r"^…$", _LINES, expected.strip(), flags=re.MULTILINE)
    pattern = "".join(_as_pattern(part) for part in re.split(rf"({_LINES}|…|\d+\.\d+|\s+)", marked))
    match = re.fullmatch(pattern, actual.strip())
    assert match, f"the page says\n{expected}\nand there came\n{said}"
    for shown, came in zip(_NUMBER.findall(expected), match.groups(), strict=True):
        assert abs(float(shown) - float(came)) <= TOLERANCE, f"{came} is not {shown} in\n{said}"


def _as_pattern(part: str) -> str:
    if part == _LINES:
        return r"[\s\S]*?"
    if part == "…":
        return r"[^\n]*?"
    if _NUMBER.fullmatch(part):
        return r"(\d+\.\d+)"
    if part.isspace():
        return r"[ \t]*(?:\n\s*)+" if "\n" in part else r"[ \t]+"
    return re.escape(part)
