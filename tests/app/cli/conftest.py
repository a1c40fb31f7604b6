"""A real `athanor serve`, and people who type commands at it: each command is a process."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from app.access.principal import SYSTEM
from app.db.session import Database
from app.db.tables import VersionRow
from app.registry.service import Registry
from app.storage.objects import ObjectStore
from models.export.reference import Reference, write_reference
from tests.app.cli.forked import Forge
from tests.app.supervisor.service_process import Service
from tests.colour_models import COLOURS, SIDE, picture, publish_colours, write_colour_model

ATHANOR = (sys.executable, "-c", "from app.cli import main; main()")
KEY = "a-key-that-only-these-tests-know"


class Desk:
    """A folder with files, and the environment of somebody who works there."""

    def __init__(self, folder, environment, forge):
        self.folder = folder
        self.environment = environment
        self._forge = forge

    def start(self, *arguments, **more):
        """A command with all its imports, which goes on while the test does."""
        return subprocess.Popen(
            [*ATHANOR, *arguments],
            cwd=self.folder,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments, **more):
        said = self._forge.run(
            list(map(str, arguments)),
            folder=self.folder,
            environment={**self.environment, **more},
            output=self.folder.with_name(f"{self.folder.name}-said"),
        )
        assert "Traceback" not in said.err, said.err
        return said

    def refuses(self, *arguments, code=1, **more):
        """Its one or two lines on standard error; nothing on standard output."""
        said = self(*arguments, **more)
        assert (said.code, said.out) == (code, ""), said
        last = said.err[said.err.index("athanor: ") :].splitlines()
        assert 1 <= len(last) <= 2, said.err
        return "\n".join(last)


def lay_out(folder):
    """The files that the commands below name."""
    write_colour_model(folder / "colours.onnx")
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    (folder / "notes.onnx").write_text("these are notes")
    (folder / "pictures" / "more").mkdir(parents=True)
    for colour in COLOURS:
        (folder / "pictures" / f"{colour}.png").write_bytes(picture(colour))
    (folder / "pictures" / "more" / "deep.JPG").write_bytes(picture("blue", format_="JPEG"))
    (folder / "pictures" / "notes.txt").write_text("no picture")
    (folder / "broken.png").write_bytes(picture("red")[:60])
    samples = tuple(picture(colour, size=SIDE) for colour in COLOURS)
    pixels = np.stack([np.full((SIDE, SIDE, 3), np.eye(3, dtype=np.uint8)[k] * 255) for k in range(3)])
    session = onnxruntime.InferenceSession(str(folder / "colours.onnx"))
    logits = session.run(None, {"image": pixels.astype(np.uint8)})[0]
    write_reference(
        folder / "reference.safetensors",
        Reference(samples=samples, logits=logits, labels=COLOURS, by="the test"),
    )


class Publisher:
    """Publishes versions as a finished job does, in the running service's own registry."""

    def __init__(self, service, folder):
        settings = service.settings()
        self.database = Database(settings.sqlalchemy_url)
        self.objects = ObjectStore.from_settings(settings)
        self.registry = Registry(self.database, self.objects)
        self.folder = folder

    def __call__(self, name, **options):
        publish_colours(self.registry, self.folder, name=name, **options)

    def file(self, name, file):
        artifact = self.registry.get_version(SYSTEM, name, 1).artifact(file)
        return self.objects.fetch(SYSTEM, artifact.sha256)

    def alter_manifest(self, name, change):
        """What somebody with the database in hand could do."""
        version = self.registry.get_version(SYSTEM, name, 1)
        with self.database.begin() as session:
            row = session.get(VersionRow, version.id)
            altered = json.loads(json.dumps(row.manifest))
            change(altered)
            row.manifest = altered


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    service = Service(
        tmp_path_factory.mktemp("transcript") / "data", API_KEY=KEY, DEFAULT_CLASSIFIER="colours"
    ).start()
    service.wait((service.data_dir / "serve.json").exists, what="the announcement")
    yield service
    service.end()


@pytest.fixture(scope="session")
def forge():
    forge = Forge()
    yield forge
    forge.end()


@pytest.fixture(scope="session")
def athanor(service, forge, tmp_path_factory):
    """Somebody on the service's machine, with its settings, in a folder of their own; `colours:1` answers."""
    desk = Desk(tmp_path_factory.mktemp("desk"), service.environment, forge)
    lay_out(desk.folder)
    publisher = Publisher(service, tmp_path_factory.mktemp("published"))
    publisher("colours")
    publisher.database.close()
    return desk


@pytest.fixture
def publish(athanor, service, tmp_path):
    publisher = Publisher(service, tmp_path)
    yield publisher
    publisher.database.close()


@pytest.fixture
def stranger(athanor, forge, tmp_path):
    """Somebody elsewhere: no service runs on their data dir, no key is in their environment."""
    environment = {name: value for name, value in athanor.environment.items() if "ATHANOR" not in name}
    environment |= {"ATHANOR_DATA_DIR": str(tmp_path), "ATHANOR_PORT": "1"}
    return Desk(athanor.folder, environment, forge)
