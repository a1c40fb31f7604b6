"""Small real PNGs, and archives of them."""

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def png(seed: int, *, side: int = 12, kind: str = "PNG") -> bytes:
    """An encoded picture of noise; another seed, other bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def folders(*classes: str, per_class: int = 10, prefix: str = "", seed: int = 0) -> dict[str, bytes]:
    """Contents of an archive of class folders."""
    return {
        f"{prefix}{name}/{number}.png": png(seed + at * 1000 + number)
        for at, name in enumerate(classes)
        for number in range(per_class)
    }


def write_zip(path: Path, contents: dict[str, bytes], *, kind: int = zipfile.ZIP_DEFLATED) -> Path:
    """Names that end with a slash become folders."""
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, contents: dict[str, bytes], *, kind: int = tarfile.PAX_FORMAT) -> Path:
    """Packed with gzip when the name says so."""
    packing: dict[str, Any] = (
        {"mode": "w:gz", "compresslevel": 1} if path.name.endswith("gz") else {"mode": "w"}
    )
    with tarfile.open(path, format=kind, **packing) as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
