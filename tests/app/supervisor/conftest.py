import pytest

from tests.app.supervisor.service_process import Service


@pytest.fixture
def service(tmp_path):
    """A service that can be started once settings are added."""
    service = Service(tmp_path / "data")
    yield service
    service.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One service for all tests of a module that leave it running."""
    service = Service(tmp_path_factory.mktemp("running") / "data").start()
    service.wait_ready()
    yield service
    service.end()
