import pytest

from app.db import migrate
from tests.crash.workshop import Workshop


@pytest.fixture
def make_workshop(tmp_path, sqlite_url):
    """Makes workers on a database and a broker: the embedded ones where no others are given."""
    made = []

    def make(**changes):
        given = {"data_dir": tmp_path / "data", "database_url": sqlite_url, **changes}
        made.append(Workshop(tmp_path, **given))
        return made[-1]

    yield make
    for workshop in made:
        workshop.close()


@pytest.fixture(scope="module")
def make_lasting_workshop(tmp_path_factory):
    """The same for all tests of a module."""
    made = []

    def make(**changes):
        folder = tmp_path_factory.mktemp("workshop")
        made.append(Workshop(folder, data_dir=folder / "data", **changes))
        migrate.upgrade(made[-1].settings.sqlalchemy_url)
        return made[-1]

    yield make
    for workshop in made:
        workshop.close()
