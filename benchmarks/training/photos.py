"""JPEG files of the size that people upload, cut from the photos beside the examples."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.training.setting import CLASSES
from models.data.pack import PackWriter, Split

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "photos"


def write_photos(folder: Path, number: int, *, width: int, height: int) -> int:
    """Write `number` files, and a pack of the same bytes; returns their size in bytes."""
    sources = [
        Image.open(path).convert("RGB")
        for path in sorted(EXAMPLES.iterdir())
        if path.suffix in {".jpg", ".png"}
    ]
    chance = np.random.default_rng(0)
    size_bytes = 0
    with PackWriter(folder / "photos.pack", [f"label-{label}" for label in range(CLASSES)]) as writer:
        for at in range(number):
            source = sources[at % len(sources)]
            share = chance.uniform(0.5, 1.0)
            sides = [share * side for side in source.size]
            left, top = (
                chance.uniform(0, whole - part) for whole, part in zip(source.size, sides, strict=True)
            )
            part = source.resize((width, height), box=(left, top, left + sides[0], top + sides[1]))
            path = folder / f"{at:05d}.jpg"
            part.save(path, quality=90)
            size_bytes += path.stat().st_size
            writer.add(
                path.read_bytes(),
                name=path.name,
                label=at % CLASSES,
                split=Split.TRAIN,
                width=width,
                height=height,
            )
        writer.finish()
    return size_bytes
