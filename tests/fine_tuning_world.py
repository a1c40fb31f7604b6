"""What fine-tuning requests refer to: a base that can be trained, one that cannot, files, a data set."""

from dataclasses import dataclass

from app.access.principal import SYSTEM
from app.files.service import FileService
from app.registry.service import Registry
from app.services import build_services
from app.settings import Settings
from models.manifest import MODEL_FILE, WEIGHTS_FILE, Task
from tests.packs import class_folders, publish_pack
from tests.registry_world import build_certificate, build_manifest, publish


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
    architecture; `masks` is for segmentation; `colours` is a data set with labels red, green, blue, `cells`
    one for segmentation; two archives are uploaded.
    """
    services = build_services(settings)
    registry, datasets = services.registry, services.datasets
    publish_base(registry, folder / "base", name="base")
    publish_base(registry, folder / "base2", name="base", weights=b"more weights")
    registry.promote(SYSTEM, "base", "beta", 2)
    publish_base(registry, folder / "graph", name="graph", weights=None)
    publish_base(registry, folder / "odd", name="odd", architecture="homemade")
    publish(registry, SYSTEM, folder / "masks", name="masks", task=Task.SEGMENTATION)
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
