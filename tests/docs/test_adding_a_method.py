"""`docs/adding-a-method.md` speaks of files, tests and code that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text()
CODE = re.findall(r"```(?:python|text)\n(.*?)```", PAGE, re.DOTALL)
FILES = sorted(set(re.findall(r"(?:models|tests|docs)/[\w/.-]+\w", PAGE)))
NAMES = sorted(
    set(re.findall(r"`(_?[A-Z][A-Z_]{3,}|test_a_\w+|declare_\w+|choose_\w+|PeftAdapted)(?:\(\))?`", PAGE))
)


def sources():
    return [path.read_text() for folder in ("models", "tests") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("block", CODE)
def test_its_example_is_code_of_the_catalogue(block):
    assert any(block in source for source in sources())


def test_its_files_are_there():
    assert len(FILES) >= 8
    assert [name for name in FILES if not (ROOT / name).exists()] == []


def test_what_it_names_in_them_is_there():
    assert len(NAMES) >= 10
    text = "\n".join(source for source in sources() if "docs/adding-a-method.md" not in source)
    assert [name for name in NAMES if not re.search(rf"\b{name}\b", text)] == []


def test_it_has_an_example():
    assert len(CODE) == 3
