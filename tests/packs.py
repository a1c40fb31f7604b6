"""Small real packs, and archives of class folders, of pictures in three colours."""

import io
import zipfile
from pathlib import Path

from app.datasets.service import DatasetService
from models.data.pack import PackWriter, Split
from tests.colour_models import COLOURS, picture

SIDE = 16
SPLITS = (Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST)


def write_pack(path: Path, *, seed: int = 1, per_label: int = 4) -> Path:
    """A pack with `per_label` pictures of each colour; another seed gives other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with PackWriter(path, COLOURS) as writer:
        for label, colour in enumerate(COLOURS):
            for number in range(per_label):
                writer.add(
                    picture(colour, size=SIDE, noise=seed * 1000 + label * 100 + number + 1),
                    name=f"{colour}/{number}.png",
                    label=label,
                    split=SPLITS[number % len(SPLITS)],
                    width=SIDE,
                    height=SIDE,
                )
        writer.finish()
    return path


def publish_pack(datasets: DatasetService, principal, folder: Path, *, name: str, seed: int = 1, **options):
    """Publish a pack as a job would; keywords replace what is published with it."""
    given = {
        "task": "classification",
        "pack": write_pack(folder / f"{name}-{seed}.pack", seed=seed),
        "source": {"files": [], "base": None, "options": {}},
        "report": {"labels": list(COLOURS)},
        "job_id": None,
    }
    return datasets.publish(principal, name=name, **{**given, **options})


def class_folders(*, per_label: int = 10, broken: tuple[str, ...] = (), ballast_bytes: int = 0) -> bytes:
    """A zip of class folders; files named in `broken` are cut off. Ballast is a file that is no image."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for label, colour in enumerate(COLOURS):
            for number in range(per_label):
                name = f"{colour}/{number}.png"
                data = picture(colour, size=SIDE, noise=label * 100 + number + 1)
                archive.writestr(name, data[:40] if name in broken else data)
        if ballast_bytes:
            archive.writestr("notes.txt", bytes(ballast_bytes))
    return out.getvalue()
