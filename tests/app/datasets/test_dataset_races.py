"""Contenders with a connection each: what they leave must be what some order of them would have left."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.access.principal import SYSTEM
from app.datasets.service import DatasetService
from app.db.session import Database
from app.errors import StorageUnavailable, UnknownVersion
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.packs import publish_pack

CONTENDERS = 6


@pytest.fixture
def objects(tmp_path):
    return ObjectStore.from_settings(Settings(data_dir=tmp_path, objects_url="memory://", _env_file=None))


@pytest.fixture
def contenders(database_url, objects):
    """Services over one database, each with its own connections, as separate processes would have."""
    databases = [Database(database_url) for _ in range(CONTENDERS)]
    yield [DatasetService(database, objects) for database in databases]
    for database in databases:
        database.close()


def race(contenders, act):
    """All at once: `act(service, number of the contender)`."""
    barrier = threading.Barrier(len(contenders))

    def run(number):
        barrier.wait()
        return act(contenders[number], number)

    with ThreadPoolExecutor(len(contenders)) as threads:
        return list(threads.map(run, range(len(contenders))))


def test_publications_of_one_new_name_get_numbers_of_their_own(contenders, tmp_path):
    made = race(
        contenders,
        lambda datasets, n: publish_pack(datasets, SYSTEM, tmp_path / str(n), name="m", seed=n + 1).number,
    )
    assert sorted(made) == list(range(1, CONTENDERS + 1))


def test_a_job_delivered_to_everybody_makes_one_version(contenders, tmp_path):
    made = race(
        contenders,
        lambda datasets, n: str(
            publish_pack(datasets, SYSTEM, tmp_path / str(n), name="m", seed=n + 1, job_id="job_1")
        ),
    )
    assert made == ["m:1"] * CONTENDERS
    assert contenders[0].get(SYSTEM, "m").numbers == (1,)


def test_a_pack_that_is_published_while_its_last_version_is_deleted_is_there_or_refused(
    contenders, objects, tmp_path
):
    def act(datasets, n):
        try:
            if n % 2:
                return str(publish_pack(datasets, SYSTEM, tmp_path / f"{n}", name="m", seed=1))
            datasets.delete_version(SYSTEM, "m", 1)
        except (StorageUnavailable, UnknownVersion):
            return None

    for turn in range(5):
        publish_pack(contenders[0], SYSTEM, tmp_path / f"first-{turn}", name="m", seed=1)
        race(contenders, act)
        for number in contenders[0].get(SYSTEM, "m").numbers:
            version = contenders[0].get_version(SYSTEM, f"m:{number}")
            assert objects.exists(SYSTEM, version.sha256)
