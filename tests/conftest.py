"""Fixtures that every tier shares. Servers start once per test process, on first use."""

import functools
import os
import shutil
import signal
import ssl
import uuid
from pathlib import Path

import pytest

from app.db import migrate
from app.db.session import Database
from app.settings import Settings
from tests.first_start import FirstStart
from tests.servers import postgres_server, redis_server, s3_server

REPOSITORY = Path(__file__).parents[1]
LONGEST_FIRST = (
    "tests/workers/kinds/test_import_segmenter.py",
    "tests/e2e/test_checkpoints.py",
    "tests/app/api/test_hostile_images.py",
    "tests/e2e/test_fine_tuning.py",
    "tests/workers/test_worker_process.py",
    "tests/app/api/test_openapi_fuzz.py",
    "tests/app/runtime/test_swaps.py",
    "tests/app/supervisor/test_stopping.py",
    "tests/app/cli/test_transcript.py",
    "tests/app/cli/test_transcript_proof.py",
    "tests/app/cli/test_datasets_verb.py",
    "tests/app/cli/test_jobs_cli.py",
    "tests/workers/kinds/test_import_bundle.py",
    "tests/deploy/test_compose.py",
    "tests/migrations/test_older_data_dirs.py",
    "tests/app/api/test_overload.py",
    "tests/app/api/test_one_connection.py",
    "tests/workers/kinds/test_import_weights.py",
    "tests/app/api/test_batches.py",
    "tests/models/train/test_training_loop.py",
)
"""Files that take ten seconds and more. A process that runs tests gets whole files: were these the last, the
other would wait for the one that runs them. The very first begins with the first start that others share."""


def pytest_configure():
    """Started in the background, a shell has its children ignore Ctrl-C, and these theirs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Those first, everything else after them in its order."""
    places = {REPOSITORY / name: place for place, name in enumerate(LONGEST_FIRST)}
    missing = [str(path) for path in places if not path.exists()]
    assert missing == [], "tests/conftest.py names files that are not there"
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish():
    """Torch is imported by now, and has read how its threads wait. What tests start decides for itself."""
    os.environ.pop("OMP_WAIT_POLICY", None)


@pytest.fixture(scope="session", autouse=True)
def _authorities_are_read_once():
    """A client of httpx reads all authorities' certificates, in 50 ms; hundreds here speak plain HTTP."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


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


@pytest.fixture(scope="session")
def first_start(tmp_path_factory):
    own = tmp_path_factory.getbasetemp()
    return FirstStart(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def lite0(first_start):
    """EfficientNet-Lite0 as a first start imports it."""
    return first_start.starter("efficientnet-lite0")


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
