import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, MetaData, Table, inspect, text

import migrations
from app.db import migrate
from app.db.session import Database
from app.db.tables import Base, ModelRow, RevisionRow
from app.runtime.footprint import Footprint
from app.runtime.plan import Plan
from app.runtime.tunings import TuningStore


@pytest.fixture
def empty_database(empty_database_url):
    database = Database(empty_database_url)
    yield database
    database.close()


def revisions():
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == migrations.HEAD, "set HEAD in migrations/__init__.py"
    return [step.revision for step in reversed(list(script.walk_revisions()))]


def drift(database):
    """What `Base.metadata` has and the migrated database lacks, or the other way round."""
    with database.db_engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return compare_metadata(context, Base.metadata)


def test_an_empty_database_reaches_the_newest_revision(empty_database_url):
    assert migrate.current(empty_database_url) is None
    assert not migrate.is_current(empty_database_url)
    migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) == migrations.HEAD
    assert migrate.is_current(empty_database_url)


def test_the_migrations_build_exactly_the_declared_tables(database):
    assert drift(database) == []


def test_a_column_that_no_migration_adds_is_noticed(database):
    with database.begin() as session:
        session.execute(text("ALTER TABLE files DROP COLUMN purpose"))
    assert [step[0] for step in drift(database)] == ["add_column"]


def test_each_revision_goes_up_down_and_up_again(empty_database_url, empty_database):
    before = "base"
    for revision in revisions():
        migrate.upgrade(empty_database_url, revision)
        migrate.downgrade(empty_database_url, before)
        migrate.upgrade(empty_database_url, revision)
        before = revision
    assert drift(empty_database) == []
    migrate.downgrade(empty_database_url, "base")
    assert inspect(empty_database.db_engine).get_table_names() == ["alembic_version"]


def test_rows_survive_another_upgrade(database_url, database):
    row = ModelRow(
        id="mod_1", tenant_id="default", name="m", task="classification", next_version=2, created_at=1.5
    )
    with database.begin() as session:
        session.add(row)
        session.get_one(RevisionRow, 1).value = 7
    migrate.upgrade(database_url)
    with database.read() as session:
        assert session.get_one(ModelRow, "mod_1").created_at == 1.5
        assert session.get_one(RevisionRow, 1).value == 7


def test_models_and_plans_from_before_memory_was_bounded_go_up_and_down_again(
    empty_database_url, empty_database
):
    migrate.upgrade(empty_database_url, "0002")
    with empty_database.begin() as session:
        session.execute(
            text(
                "INSERT INTO models (id, tenant_id, name, task, next_version, created_at)"
                " VALUES ('mod_1', 'default', 'm', 'classification', 2, 1.5)"
            )
        )
        session.execute(
            text(
                "INSERT INTO tunings (model_sha256, machine, plan, created_at)"
                " VALUES ('a', 'b', '{\"lanes\": 2, \"threads\": 1, \"batch\": 4}', 1.5)"
            )
        )
    migrate.upgrade(empty_database_url)
    store, weighed = TuningStore(empty_database), Footprint(held_bytes=2**33, peak_bytes=2**34)
    assert store.find("a", "b") == Plan(lanes=2, threads=1, batch=4)
    assert store.footprint("a", "b", "2x1x4") is None
    store.keep_footprint("a", "b", "2x1x4", weighed)
    store.keep("a", "b", Plan(lanes=1, threads=2, batch=1))  # measured again: what was weighed is kept
    assert store.footprint("a", "b", "2x1x4") == weighed
    with empty_database.begin() as session:
        assert session.get_one(ModelRow, "mod_1").serving is None
        session.get_one(ModelRow, "mod_1").serving = {"pinned": True}
    migrate.downgrade(empty_database_url, "0002")
    with empty_database.read() as session:
        assert session.execute(text("SELECT name, next_version FROM models")).all() == [("m", 2)]
        assert session.execute(text("SELECT created_at FROM tunings")).scalar_one() > 1.5


def test_the_counter_starts_at_zero(database):
    with database.read() as session:
        assert session.get_one(RevisionRow, 1).value == 0


def test_processes_that_migrate_at_once_all_succeed(empty_database_url):
    program = (
        "import os, sys\n"
        "from app.db import migrate\n"
        "racers = []\n"
        "for _ in range(4):\n"
        "    racers.append(os.fork())\n"
        "    if racers[-1] == 0:\n"
        "        migrate.upgrade(sys.argv[1])\n"
        "        os._exit(0)\n"
        "sys.exit(sum(os.waitpid(racer, 0)[1] != 0 for racer in racers))\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, empty_database_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert migrate.is_current(empty_database_url)


def test_a_start_on_a_current_database_does_not_import_alembic(sqlite_url):
    program = "import sys; from app.db import migrate; migrate.upgrade(sys.argv[1]);"
    program += "print('alembic' in sys.modules)"
    command = [sys.executable, "-c", program, sqlite_url]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_a_failing_revision_leaves_the_database_as_it_was(empty_database_url, empty_database):
    with empty_database.begin() as session:
        session.execute(text("CREATE TABLE tunings (id INTEGER)"))  # in the way of the last table
    with pytest.raises(Exception, match="already exists"):
        migrate.upgrade(empty_database_url)
    assert inspect(empty_database.db_engine).get_table_names() == ["tunings"]


def test_the_next_revision_is_drafted_from_the_tables_with_the_rules_at_its_top(tmp_path, monkeypatch):
    monkeypatch.setattr(Base, "metadata", MetaData())
    Table("additions", Base.metadata, Column("id", Integer, primary_key=True))
    drafted = migrate.draft("add additions", tmp_path)
    assert drafted.parent == tmp_path
    text = drafted.read_text()
    assert "Before this lands" in text
    assert f'down_revision = "{migrations.HEAD}"'.replace('"', "'") in text
    assert "create_table('additions'" in text
    assert "drop_table('files')" in text
