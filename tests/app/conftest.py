import pytest

from app.jobs.service import JobService
from app.storage.objects import ObjectStore


@pytest.fixture
def objects(settings):
    """The store that the settings name: a folder of the test's own."""
    return ObjectStore.from_settings(settings)


@pytest.fixture
def jobs(database):
    """Jobs that no worker hears of."""
    return JobService(database, lambda _: None)
