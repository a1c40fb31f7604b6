"""The command line's frame: exit codes, one-line errors, --json, quick starts."""

import json
import subprocess
import sys

import pytest

from app import cli
from app.db import migrate


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Commands work on a data dir of their own, far from anybody's `.env`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATHANOR_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_migrate_builds_the_database_and_says_so(home, capsys):
    assert cli.run(["migrate"]) == 0
    assert capsys.readouterr().out.startswith("database from empty to ")
    assert migrate.is_current(f"sqlite:///{home / 'athanor.db'}")
    assert cli.run(["migrate"]) == 0
    assert capsys.readouterr().out.startswith("database already at ")


@pytest.mark.parametrize("arguments", [["--json", "migrate"], ["migrate", "--json"]])
def test_json_may_stand_anywhere(home, capsys, arguments):
    assert cli.run(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["before"], facts["changed"]) == (None, True)


def test_a_database_that_is_away_is_one_line_and_a_hint(home, capsys, monkeypatch):
    monkeypatch.setenv("ATHANOR_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert cli.run(["migrate"]) == 1
    [line, hint] = capsys.readouterr().err.splitlines()
    assert line.startswith("athanor: The database does not answer:")
    assert "ATHANOR_DATABASE_URL" in hint


@pytest.mark.parametrize("arguments", [["sreve"], ["migrate", "--force"], ["serve", "--port", "many"]])
def test_a_wrong_command_line_is_exit_code_2(home, capsys, arguments):
    assert cli.run(arguments) == 2
    [line, hint] = capsys.readouterr().err.splitlines()
    assert line.startswith("athanor: ")
    assert "--help" in hint


@pytest.mark.parametrize("verb", ["migrate", "worker"])
def test_a_wrong_setting_is_exit_code_2_and_names_the_variable(home, capsys, monkeypatch, verb):
    monkeypatch.setenv("ATHANOR_PORT", "many")
    assert cli.run([verb]) == 2
    assert capsys.readouterr().err.startswith("athanor: ATHANOR_PORT='many': Input should be a valid integer")


def test_errors_are_json_for_machines(home, capsys):
    assert cli.run(["--json", "sreve"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "usage"
    assert "sreve" in error["message"]


def test_help_lists_every_verb(home, capsys):
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in cli.VERBS:
        assert f" {verb} " in shown


def loaded(statement):
    """Modules in memory after a statement, in a fresh interpreter."""
    script = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_gateway_is_started_before_anything_slow_is_imported():
    slow = {"pydantic", "sqlalchemy", "fastapi", "celery", "rich", "structlog", "httpx", "numpy", "torch"}
    assert not loaded("import app.cli.serve") & slow


def test_the_supervisor_imports_no_machine_learning_and_no_celery():
    heavy = {"torch", "onnxruntime", "numpy", "celery", "fastapi", "PIL"}
    assert not loaded("import app.supervisor.service") & heavy
