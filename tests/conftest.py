"""Fixtures that every tier shares. Servers start once per test process, on first use."""

import os
import shutil
import uuid

import pytest

from app.db import migrate
from app.db.session import Database
from app.settings import Settings
from tests.servers import postgres_server, redis_server, s3_server


def pytest_collection_finish():
    """Torch is imported by now, and has read how its threads wait. What tests start decides for itself."""
    os.environ.pop("OMP_WAIT_POLICY", None)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """No setting of whoever runs the tests reaches them."""
    for name in [name for name in os.environ if name.startswith("ATHANOR_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def settings(tmp_path):
    """Settings of an embedded Athanor that lives in the test's own folder."""
    return Settings(data_dir=tmp_path / "data", _env_file=None)


@pytest.fixture(scope="session")
def redis_url():
    with redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request, tmp_path):
    """URL of a database without a table; the test runs once on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'database' / 'athanor.db'}"
        return
    server = request.getfixturevalue("postgres")
    name = f"empty-{uuid.uuid4().hex}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "athanor.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _migrated_postgres(postgres):
    migrate.upgrade(postgres.create_database("migrated"))
    return "migrated"


@pytest.fixture
def sqlite_url(tmp_path, _migrated_sqlite):
    """URL of a migrated, empty SQLite database."""
    path = tmp_path / "database" / "athanor.db"
    path.parent.mkdir()
    shutil.copy(_migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres, _migrated_postgres):
    """URL of a migrated, empty PostgreSQL database."""
    name = f"test-{uuid.uuid4().hex}"
    yield postgres.create_database(name, template=_migrated_postgres)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request):
    """URL of a migrated, empty database; the test runs once on each kind."""
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")


@pytest.fixture
def database(database_url):
    """A migrated, empty database; the test runs once on SQLite and once on PostgreSQL."""
    database = Database(database_url)
    yield database
    database.close()
