"""Photographs to learn super-resolution from: `python examples/photos_to_enlarge.py OUT.zip`.

`train/` has the 15 of Debian's package `lomiri-wallpapers-16.04`, `valid/` the four of `-20.04` (CC-BY,
CC-BY-SA, CC0), each a third as large, so that what JPEG has left in them is gone. `test/` has six others,
which scikit-image and scikit-learn bring. Needs both of these, `dpkg-deb`, and `apt-get` or the packages'
files: `--deb FILE`, once for each.

    athanor datasets create photographs OUT.zip --task super-resolution
    curl -s http://127.0.0.1:8000/v1/fine_tuning/jobs -H 'Content-Type: application/json' -d '{
      "task": "super-resolution", "model": "espcn_residual", "training_file": "photographs", "scale": 2,
      "image_size": 60, "learning_rate": 0.002, "max_steps": 6000}'
"""

import argparse
import io
import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path

from composites import unpack
from PIL import Image

PACKAGES = {"lomiri-wallpapers-16.04": "train", "lomiri-wallpapers-20.04": "valid"}
_SMALLER = 3
_SKIMAGE = ("astronaut", "chelsea", "coffee", "motorcycle_left")
_SKLEARN = ("china", "flower")
_MULTIPLE = 24


def held_out() -> dict[str, Image.Image]:
    """The six, with sides that 24 divides, so that none of it is cut off at any scale."""
    paths = [files("skimage") / "data" / f"{name}.png" for name in _SKIMAGE]
    paths += [files("sklearn.datasets") / "images" / f"{name}.jpg" for name in _SKLEARN]
    found = {}
    for path in paths:
        with path.open("rb") as file:
            image = Image.open(file).convert("RGB")
        size = image.width // _MULTIPLE * _MULTIPLE, image.height // _MULTIPLE * _MULTIPLE
        found[path.name.partition(".")[0]] = image.crop((0, 0, *size))
    return found


def wallpapers(folder: Path) -> dict[str, Image.Image]:
    """The photographs of an unpacked package, made smaller."""
    found = {}
    for path in sorted(folder.rglob("backgrounds/*.jpg"), key=lambda path: path.name):
        with Image.open(path) as image:
            size = image.width // _SMALLER, image.height // _SMALLER
            found[path.stem] = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return found


def write_zip(debs: list[Path], out: Path) -> None:
    """Write the archive."""
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for package, split in PACKAGES.items():
            given = [deb for deb in debs if deb.name.startswith(package)]
            folder = Path(name) / split
            folder.mkdir()
            _put(archive, split, wallpapers(unpack(given, folder, packages=[package])))
        _put(archive, "test", held_out())


def _put(archive: zipfile.ZipFile, split: str, photos: dict[str, Image.Image]) -> None:
    for name, photo in photos.items():
        png = io.BytesIO()
        photo.save(png, "PNG", compress_level=1)
        archive.writestr(f"{split}/{name}.png", png.getvalue())
    print(f"{split}: {len(photos)} photographs")


def main() -> None:
    """Fetch, unpack, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--deb", type=Path, action="append", default=[], help="a package's file; twice")
    arguments = parser.parse_args()
    write_zip(arguments.deb, arguments.out)


if __name__ == "__main__":
    main()
