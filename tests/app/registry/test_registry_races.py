"""Contenders with a connection each: what they leave must be what some order of them would have left."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event

from app.access.principal import SYSTEM
from app.db.session import Database
from app.errors import Conflict, StorageUnavailable, UnknownVersion
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.manifest import MODEL_FILE
from tests.registry_world import build_certificate, build_manifest, publish

CONTENDERS = 6


@pytest.fixture
def contenders(database_url, tmp_path):
    """Registries over one database, each with its own connections, as separate processes would have."""
    databases = [Database(database_url) for _ in range(CONTENDERS)]
    settings = Settings(data_dir=tmp_path, objects_url="memory://", _env_file=None)
    objects = ObjectStore.from_settings(settings)
    yield [Registry(database, objects) for database in databases]
    for database in databases:
        database.close()


def race(contenders, act):
    """All at once: `act(registry, number of the contender)`."""
    barrier = threading.Barrier(len(contenders))

    def run(number):
        barrier.wait()
        return act(contenders[number], number)

    with ThreadPoolExecutor(len(contenders)) as threads:
        return list(threads.map(run, range(len(contenders))))


def test_publications_of_one_new_name_get_numbers_of_their_own(contenders, tmp_path):
    numbers = race(
        contenders,
        lambda registry, n: publish(registry, SYSTEM, tmp_path / str(n), name="m", model=bytes([n])).number,
    )
    assert sorted(numbers) == list(range(1, CONTENDERS + 1))
    model = contenders[0].get_model(SYSTEM, "m")
    assert model.aliases == {"default": 1}
    for n, number in enumerate(numbers):
        assert model.versions[number].artifact(MODEL_FILE).sha256 == (
            build_certificate(build_manifest(), bytes([n])).model_sha256
        )


def test_a_job_delivered_to_everybody_publishes_once(contenders, tmp_path):
    published = race(
        contenders,
        lambda registry, n: publish(
            registry, SYSTEM, tmp_path / str(n), name="m", model=bytes([n]), job_id="job_1"
        ),
    )
    assert {str(version) for version in published} == {"m:1"}
    assert list(contenders[0].get_model(SYSTEM, "m").versions) == [1]


def test_promotions_form_a_chain_without_a_gap(contenders, tmp_path):
    for n in range(CONTENDERS):
        publish(contenders[0], SYSTEM, tmp_path, name="m", model=bytes([n]))
    before = contenders[0].revision()
    moves = race(contenders, lambda registry, n: registry.promote(SYSTEM, "m", "production", n + 1))
    # Each promotion saw what the one before it had left: following `previous` from the end visits all.
    previous = {move.number: move.previous_number for move in moves}
    at = contenders[0].get_alias(SYSTEM, "m", "production").number
    chain = []
    while at is not None:
        chain.append(at)
        at = previous[at]
    assert sorted(chain) == list(range(1, CONTENDERS + 1))
    assert contenders[0].revision() == before + CONTENDERS


def test_promotions_and_rollbacks_at_once_leave_an_alias_that_points_somewhere(contenders, tmp_path):
    for n in range(2):
        publish(contenders[0], SYSTEM, tmp_path, name="m", model=bytes([n]))
    contenders[0].promote(SYSTEM, "m", "default", 2)

    def act(registry, n):
        for _ in range(5):
            if n % 2:
                registry.rollback(SYSTEM, "m", "default")
            else:
                registry.promote(SYSTEM, "m", "default", 1 + n // 2 % 2)
            alias = registry.get_alias(SYSTEM, "m", "default")
            assert {alias.number, alias.previous_number} == {1, 2}

    race(contenders, act)


def test_a_version_is_either_promoted_or_deleted(contenders, tmp_path):
    for attempt in range(4):
        publish(contenders[0], SYSTEM, tmp_path, name=f"m{attempt}", model=b"one")
        publish(contenders[0], SYSTEM, tmp_path, name=f"m{attempt}", model=b"two")

        def act(registry, n, name=f"m{attempt}"):
            try:
                if n % 2:
                    registry.promote(SYSTEM, name, "production", 2)
                else:
                    registry.delete_version(SYSTEM, name, 2)
            except (Conflict, UnknownVersion):
                return

        race(contenders, act)
        model = contenders[0].get_model(SYSTEM, f"m{attempt}")
        assert all(number in model.versions for number in model.aliases.values())


def test_bytes_deleted_while_the_same_are_published_are_never_missing(contenders, tmp_path):
    for n in range(CONTENDERS):
        publish(contenders[0], SYSTEM, tmp_path, name=f"m{n}", model=b"the same in all")

    def act(registry, n):
        for _ in range(3):
            if n % 2:
                registry.delete_model(SYSTEM, f"m{n}")
            try:
                publish(registry, SYSTEM, tmp_path / str(n), name=f"m{n}", model=b"the same in all")
            except StorageUnavailable:
                continue  # told so: nothing was published

    race(contenders, act)
    objects = contenders[0]._objects
    for model in contenders[0].list_models(SYSTEM):
        for version in model.versions.values():
            for artifact in version.artifacts:
                assert objects.exists(SYSTEM, artifact.sha256)


def test_a_snapshot_is_of_one_moment_even_if_all_changes_while_it_is_read(contenders, tmp_path):
    reader, writer = contenders[:2]
    publish(writer, SYSTEM, tmp_path, name="m", model=b"first")
    changes = []

    def change_between_statements(_connection, _cursor, statement, *_):
        if not statement.startswith("SELECT"):
            return  # a view begins with its first read
        number = publish(writer, SYSTEM, tmp_path, name="m", model=bytes([len(changes)])).number
        writer.promote(SYSTEM, "m", "default", number)
        writer.delete_version(SYSTEM, "m", number - 1)
        changes.append(number)

    event.listen(reader._database.db_engine, "after_cursor_execute", change_between_statements)
    snapshot = reader.load_snapshot()
    assert len(changes) >= 4, "the snapshot was read in fewer statements than this test reckons with"
    assert snapshot.models["default", "m"].aliases == {"default": 1}
    assert list(snapshot.models["default", "m"].versions) == [1]
    assert snapshot.revision == 1
