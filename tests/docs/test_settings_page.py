import re
from pathlib import Path

from app.settings import Settings


def test_every_setting_is_on_the_page_and_nothing_else():
    page = re.findall(r"^\| `ATHANOR_([A-Z_]+)`", Path("docs/settings.md").read_text(), re.MULTILINE)
    assert len(page) > 20
    assert sorted(page) == sorted(name.upper() for name in Settings.model_fields)


def test_every_setting_says_what_it_is_for():
    source = Path("app/settings.py").read_text()
    for name in Settings.model_fields:
        assert re.search(rf'^    {name}: .*\n(?:.*\n)?    """', source, re.MULTILINE), name
