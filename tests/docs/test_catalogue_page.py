"""`docs/catalogue.md` and the rows."""

from models.catalogue import CATALOGUE
from models.catalogue.page import PAGE, render


def test_the_page_is_what_the_rows_say():
    assert PAGE.read_text() == render(), "run `python -m models.catalogue.page`"


def test_every_row_is_on_it():
    lines = [line for line in render().splitlines() if line.startswith("| `")]
    assert len(lines) == len(CATALOGUE) > 60
