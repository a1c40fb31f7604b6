import threading

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import InternalError

from app.db.revision import bump_revision, lock_revision, read_revision
from app.db.session import Database
from app.db.tables import TuningRow
from app.errors import StorageUnavailable


def row(name):
    return TuningRow(model_sha256=name, machine="here", plan={}, created_at=0.0)


def names(database):
    with database.read() as session:
        return sorted(session.scalars(select(TuningRow.model_sha256)))


def test_a_transaction_is_kept_whole_or_not_at_all(database):
    with database.begin() as session:
        session.add(row("kept"))
    with pytest.raises(RuntimeError, match="half-way"), database.begin() as session:
        session.add(row("lost"))
        session.flush()
        raise RuntimeError("half-way")
    assert names(database) == ["kept"]


def test_the_first_connection_creates_the_folder(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'deep' / 'down' / 'athanor.db'}")
    assert not (tmp_path / "deep").exists()
    with database.read() as session:
        assert session.scalar(text("SELECT 1")) == 1
    database.close()
    assert (tmp_path / "deep" / "down" / "athanor.db").exists()


def test_sqlite_survives_a_power_cut_and_keeps_its_references(sqlite_url):
    database = Database(sqlite_url)
    with database.read() as session:
        pragmas = [
            session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    database.close()
    assert pragmas == ["wal", 2, 1]


def test_a_reader_sees_one_moment_while_a_writer_commits(database):
    with database.read() as reader:
        assert list(reader.scalars(select(TuningRow.model_sha256))) == []
        with database.begin() as writer:
            writer.add(row("new"))
        assert list(reader.scalars(select(TuningRow.model_sha256))) == []
    assert names(database) == ["new"]


def test_a_reader_on_postgresql_cannot_write(postgres_url):
    database = Database(postgres_url)
    with pytest.raises(InternalError, match="read-only"), database.read() as session:
        session.execute(text("DELETE FROM tunings"))
    database.close()


def test_writers_queue_instead_of_failing(database):
    def write(number):
        for count in range(5):
            with database.begin() as session:
                lock_revision(session)
                before = read_revision(session)
                session.add(row(f"{number}-{count}"))
                bump_revision(session)
                assert read_revision(session) == before + 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(database)) == 20
    with database.read() as session:
        assert read_revision(session) == 20


def test_a_database_that_cannot_be_reached_is_storage_unavailable():
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    for door in (database.begin, database.read):
        with pytest.raises(StorageUnavailable), door() as session:
            session.execute(text("SELECT 1"))
    database.close()
