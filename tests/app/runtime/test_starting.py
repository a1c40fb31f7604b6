"""A gateway loads while it still imports, but measures nothing then: imports would be measured too."""

import json
import sqlite3
import time
from contextlib import closing

import pytest

from app.access.principal import SYSTEM
from app.db import migrate
from app.db.session import Database
from app.registry.service import Registry
from app.services import build_services
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.colour_models import publish_colours
from tests.serving import pin_plan

MODEL = "colours"


@pytest.fixture
def settings(tmp_path):
    settings = Settings(
        data_dir=tmp_path / "data", default_classifier=MODEL, starters="", cpu_threads=1, _env_file=None
    )
    migrate.upgrade(settings.sqlalchemy_url)
    database = Database(settings.sqlalchemy_url)
    registry = Registry(database, ObjectStore.from_settings(settings))
    publish_colours(registry, tmp_path / MODEL, name=MODEL)
    pin_plan(registry, database, MODEL, batch=4)
    database.close()
    return settings


@pytest.fixture
def start(settings):
    """Services that have begun beside imports."""
    started = []

    def begin():
        started.append(build_services(settings))
        started[-1].begin_beside_imports()
        return started[-1]

    yield begin
    for services in started:
        services.begin()
        services.close()


def engine_of(services, *, within_s=10.0):
    until_s = time.monotonic() + within_s
    while (engine := services.pool.find(SYSTEM, MODEL)) is None and time.monotonic() < until_s:
        time.sleep(0.01)
    return engine


def test_what_was_never_weighed_waits_until_the_imports_are_over(start):
    services = start()
    assert engine_of(services, within_s=0.5) is None
    services.begin()
    assert engine_of(services).footprint.held_bytes > 0


def test_what_was_weighed_before_is_loaded_meanwhile_and_is_not_weighed_again(settings, start):
    first = start()
    first.begin()
    assert engine_of(first) is not None
    weigh_as(settings, held_bytes=123_456_789)
    assert engine_of(start()).footprint.held_bytes == 123_456_789


def weigh_as(settings, *, held_bytes):
    """Have the stored weight be another."""
    with closing(sqlite3.connect(settings.data_dir / "athanor.db")) as database:
        ((memory,),) = database.execute("SELECT memory FROM tunings WHERE memory IS NOT NULL").fetchall()
        weights = json.loads(memory)
        assert len(weights) == 1
        for weight in weights.values():
            weight["held_bytes"] = held_bytes
        database.execute("UPDATE tunings SET memory = ?", [json.dumps(weights)])
        database.commit()
