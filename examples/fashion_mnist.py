"""Fashion-MNIST as a data set for Athanor: `python examples/fashion_mnist.py OUT.zip`.

70,000 pictures of clothes, 28 x 28 grey, in ten classes, from Debian's package `dataset-fashion-mnist` (MIT).
The zip has `train/` (60,000) and `test/` (10,000), a folder per class. Needs `dpkg-deb`, and `apt-get` or the
package's file: `--deb FILE`.
"""

import argparse
import gzip
import io
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PACKAGE = "dataset-fashion-mnist"
CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
SPLITS = {"train": "train", "test": "t10k"}


def fetch(folder: Path) -> Path:
    """Download the package; nothing is installed."""
    subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob(f"{PACKAGE}_*.deb"))


def unpack(deb: Path, folder: Path) -> Path:
    """Unpack it; where its files lie."""
    subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True)
    return next(path.parent for path in folder.rglob("train-images-idx3-ubyte*"))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format: 0, 0, 8, number of dimensions, each big-endian, then the data."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def write_zip(source: Path, out: Path) -> int:
    """Write the archive; how many pictures are in it."""
    count = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for split, prefix in SPLITS.items():
            images = read_idx(next(source.glob(f"{prefix}-images-idx3-ubyte*")))
            labels = read_idx(next(source.glob(f"{prefix}-labels-idx1-ubyte*")))
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                png = io.BytesIO()
                Image.fromarray(image).save(png, "PNG")
                archive.writestr(f"{split}/{CLASSES[label]}/{index:05d}.png", png.getvalue())
                count += 1
    return count


def main() -> None:
    """Fetch, unpack, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--deb", type=Path, help="the package's file, if it is there already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = unpack(arguments.deb or fetch(folder), folder / "unpacked")
        print(f"{write_zip(source, arguments.out)} pictures in {arguments.out}")


if __name__ == "__main__":
    main()
