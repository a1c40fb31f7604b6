"""Slices of a brain with their tissues, for segmentation: `python examples/mni152.py OUT.zip`.

The T1 template MNI152 2009a as nilearn has it (BSD-3; the template's own terms: Fonov et al. 2009, ICBM 152
Nonlinear atlases), cut across. A pixel is `grey` or `white` where that tissue's map is at least half and not
below the other, else `background`. Neighbouring slices are nearly the same picture, so splits are blocks of
slices with at least ten left out between them. Needs `pip`, or the package's file: `--wheel FILE`.

    athanor datasets create mni152 OUT.zip --task segmentation
"""

import argparse
import gzip
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PACKAGE = "nilearn==0.14.1"
LABELS = ("background", "grey", "white")
BLOCKS = {
    "train": ((0, 13), (38, 53), (83, 97), (126, 140)),
    "valid": ((23, 28),),
    "test": ((63, 73), (107, 116)),
}
"""Of the slices that show brain, from below: first and one past the last. Each block that judges lies between
two to learn from: what is asked is to know a brain, not to guess at structures never seen."""
_LEAST_BRAIN = 0.02
"""Share of tissue in a slice that shows brain."""

Volume = NDArray[np.uint8]


def fetch(folder: Path) -> Path:
    """Download the package; nothing is installed."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        PACKAGE,
    ]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def read_volume(wheel: zipfile.ZipFile, name: str) -> Volume:
    """One of the template's maps, (x, y, z); NIfTI-1 of bytes: sides at 40, the data's offset at 108."""
    path = next(
        path for path in wheel.namelist() if path.endswith(f"_{name}_tal_nlin_sym_09a_converted.nii.gz")
    )
    data = gzip.decompress(wheel.read(path))
    sides = np.frombuffer(data, "<i2", 3, 42)
    offset = int(np.frombuffer(data, "<f4", 1, 108)[0])
    return np.frombuffer(data, np.uint8, int(sides.prod()), offset).reshape(sides, order="F")


def write_zip(wheel: Path, out: Path) -> None:
    """Write the archive."""
    with zipfile.ZipFile(wheel) as file:
        t1, grey, white = (read_volume(file, name) for name in ("t1", "gm", "wm"))
    tissue = np.where(grey >= white, np.uint8(1), np.uint8(2))
    tissue[np.maximum(grey, white) < 128] = 0
    shown = np.flatnonzero((tissue > 0).mean(axis=(0, 1)) >= _LEAST_BRAIN)
    count = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("labels.txt", "".join(f"{label}\n" for label in LABELS))
        for split, blocks in BLOCKS.items():
            for z in (z for first, end in blocks for z in shown[first:end]):
                for folder, volume in (("images", t1), ("masks", tissue)):
                    png = io.BytesIO()
                    Image.fromarray(np.ascontiguousarray(volume[:, ::-1, z].T)).save(png, "PNG")
                    archive.writestr(f"{split}/{folder}/{z:03d}.png", png.getvalue())
                count += 1
    print(f"{count} of {len(shown)} slices in {out}")


def main() -> None:
    """Fetch, cut, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--wheel", type=Path, help="the package's file, if it is there already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_zip(arguments.wheel or fetch(Path(name)), arguments.out)


if __name__ == "__main__":
    main()
