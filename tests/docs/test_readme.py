"""README and the pages of examples: every block runs, in order, on a service that started from nothing.

That first start fetches the starter from the package index, builds, exports, certifies and publishes it while
the service runs. Each page then gets a copy of what it left behind.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.app.supervisor.service_process import REPOSITORY, Service
from tests.docs.pages import Reader, Step, assert_like, assert_text_like, steps
from tests.first_start import STARTERS

PAGES = {"README.md": 6, "docs/cli.md": 52, "docs/api.md": 37}
"""Page -> least number of steps on it: a page whose blocks are no longer found fails."""
ADDRESS = "127.0.0.1:8000"


@pytest.fixture
def reader(first_start, tmp_path):
    """Somebody in a clone's folder, as far as the pages need it, with a service that has just started."""
    folder = tmp_path / "clone"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "athanor").symlink_to(Path(sysconfig.get_path("scripts")) / "athanor")
    python = folder / ".venv" / "bin" / "python"  # a link would not find its environment's packages
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for name in ("README.md", "examples", "models"):
        (folder / name).symlink_to(REPOSITORY / name)
    shutil.copytree(first_start.data_dir, tmp_path / "data")
    service = Service(tmp_path / "data", **STARTERS).start()
    try:
        service.wait(service.answers, timeout_s=60, what="a further start")
        environment = dict(service.environment)
        environment["PATH"] = f"{folder / '.venv' / 'bin'}:{environment['PATH']}"
        yield Reader(folder, environment)
    finally:
        service.end()


def here(step: Step, reader: Reader) -> Step:
    """The same step on the address of this service."""
    address = (Path(reader.environment["ATHANOR_DATA_DIR"]) / "serve.json").read_text()
    address = address.partition("http://")[2].partition('"')[0]
    expected = step.expected and step.expected.replace(ADDRESS, address)
    return Step(step.command.replace(ADDRESS, address), expected, is_json=step.is_json, code=step.code)


def make_means(target: str) -> str:
    """What `make TARGET` ends with."""
    listed = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", target],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.splitlines()[-1]


@pytest.mark.timeout(900)
@pytest.mark.slow  # `make pages`
@pytest.mark.parametrize("page", PAGES)
def test_every_block_does_what_the_page_says(reader, page):
    found = steps(REPOSITORY / page)
    assert len(found) >= PAGES[page], [step.command for step in found]
    for step in found:
        if not step.command.startswith("make "):  # those are what runs here already
            reader.follow(here(step, reader))


def test_the_make_targets_of_the_readme_are_what_runs_here():
    targets = [step.command for step in steps(REPOSITORY / "README.md") if step.command.startswith("make ")]
    assert targets == ["make serve", "make test"]
    assert make_means("serve").endswith("bin/athanor serve")
    assert "bin/pytest" in make_means("test")


def test_the_readme_is_one_screen():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 60


def test_every_link_between_pages_leads_somewhere():
    links = [
        (page, target)
        for page in (
            REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "docs/cli.md", "docs/api.md")
        )
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    ]
    assert len(links) > 8
    assert [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": 0.5}, {"a": 0.6}),
        ([1, 2], [1]),
        ({"a": "cat"}, {"a": "dog…"}),
    ],
)
def test_an_answer_that_differs_from_the_page_is_noticed(actual, expected):
    with pytest.raises(AssertionError):
        assert_like(actual, expected, "")


@pytest.mark.parametrize(
    ("actual", "expected"), [("cat 0.9", "cat 0.5"), ("cat", "dog"), ("a\nb\nc", "a\nc"), ("a b", "a")]
)
def test_a_line_that_differs_from_the_page_is_noticed(actual, expected):
    with pytest.raises(AssertionError):
        assert_text_like(actual, expected, "")


def test_what_stands_for_anything_stands_for_it():
    assert_like({"a": [1, 2], "b": "x"}, {"a": [1, "…"], "…": "…"}, "")
    assert_text_like("job_1 took 0.51 s\nx\ny\nend", "job_… took 0.50 s\n…\nend", "")
