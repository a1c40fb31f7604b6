"""What fine-tuning requests refer to: a base that can be trained, one that cannot, files, a data set."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.testclient import TestClient

from app.access.principal import SYSTEM
from app.db import migrate
from app.files.service import FileService
from app.main import create_app
from app.registry.service import Registry
from app.services import build_services
from app.settings import Settings
from models.manifest import MODEL_FILE, WEIGHTS_FILE, Task
from tests.packs import class_folders, publish_pack
from tests.registry_world import build_certificate, build_manifest, publish

JOBS = "/v1/fine_tuning/jobs"
_CODES = ("invalid_spec", "unknown_model", "unknown_version", "unknown_dataset", "not_found")


@dataclass(frozen=True)
class Things:
    """Ids of what is there."""

    file_id: str
    other_file_id: str


def publish_base(
    registry: Registry, folder, *, name: str, architecture: str = "resnet18", weights=b"weights", **facts
):
    """Publish a version that training can start from, as far as the gate can see; `facts` are its
    manifest's."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = build_manifest().model_copy(update={"architecture": architecture, **facts})
    files = {MODEL_FILE: b"onnx", **({WEIGHTS_FILE: weights} if weights else {})}
    for file, data in files.items():
        (folder / file).write_bytes(data)
    return registry.publish(
        SYSTEM,
        name=name,
        manifest=manifest,
        certificate=build_certificate(manifest, b"onnx"),
        artifacts={file: folder / file for file in files},
    )


def upload(files: FileService, data: bytes, *, filename: str) -> str:
    """Store a file; its id."""
    with files.begin() as place:
        place.write(data)
        return files.commit(SYSTEM, place, filename=filename).id


def furnish(settings: Settings, folder) -> Things:
    """`base` (two versions, alias `beta`) can be trained; `graph` has no weights, `odd` no known
    architecture; `deep` is a classifier that fits the encoder of `cutter`, which is a segmenter like `masks`;
    `colours` is a data set with labels red, green, blue, `cells` one for segmentation; two archives are
    uploaded.
    """
    services = build_services(settings)
    registry, datasets = services.registry, services.datasets
    publish_base(registry, folder / "base", name="base")
    publish_base(registry, folder / "base2", name="base", weights=b"more weights")
    registry.promote(SYSTEM, "base", "beta", 2)
    publish_base(registry, folder / "graph", name="graph", weights=None)
    publish_base(registry, folder / "odd", name="odd", architecture="homemade")
    publish(registry, SYSTEM, folder / "masks", name="masks", task=Task.SEGMENTATION)
    publish_base(registry, folder / "deep", name="deep", architecture="resnet34")
    cutter = {"architecture": "unet_resnet34", "task": Task.SEGMENTATION}
    publish_base(registry, folder / "cutter", name="cutter", **cutter)
    publish_pack(datasets, SYSTEM, folder / "packs", name="colours")
    publish_pack(datasets, SYSTEM, folder / "packs", name="colours", seed=2)
    publish_pack(datasets, SYSTEM, folder / "packs", name="cells", task="segmentation", seed=3)
    archive = class_folders(per_label=2)
    things = Things(
        file_id=upload(services.files, archive, filename="digits.zip"),
        other_file_id=upload(services.files, archive + b" ", filename="letters.zip"),
    )
    services.close()
    return things


@contextmanager
def open_gate(folder) -> Iterator[tuple[TestClient, Things]]:
    """A service that has all of it, and no worker."""
    settings = Settings(data_dir=folder / "data", default_classifier="", starters="", _env_file=None)
    migrate.upgrade(settings.sqlalchemy_url)
    things = furnish(settings, folder)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client, things


def check_refused(client: TestClient, body, param: str, named: str) -> None:
    """The POST names the field, and says a word; no job is made."""
    before = client.get(JOBS).json()["data"]
    answer = client.post(JOBS, json={key: value for key, value in body.items() if value is not None})
    assert answer.status_code in (400, 404), answer.text
    error = answer.json()["error"]
    assert error["code"] in _CODES
    assert error["param"] == param or error["param"].startswith(f"{param}."), error
    assert named in f"{error['message']} {error['hint']}", error
    assert client.get(JOBS).json()["data"] == before
