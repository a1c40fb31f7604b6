"""Clothes on photographs, with exact masks, for segmentation: `python examples/composites.py OUT.zip`.

Each picture is a crop of a photograph with an item of Fashion-MNIST pasted in; its mask says where. Items and
photographs of `train/` and `valid/` are others than those of `test/`. From Debian's packages
`dataset-fashion-mnist` (MIT) and `lomiri-wallpapers-16.04` and `-20.04` (CC-BY, CC-BY-SA, CC0). Needs
`dpkg-deb`, and `apt-get` or the packages' files: `--deb FILE`, once for each.

    athanor datasets create composites OUT.zip --task segmentation
    curl -s http://127.0.0.1:8000/v1/fine_tuning/jobs -H 'Content-Type: application/json' -d '{
      "task": "segmentation", "model": "u2netp", "training_file": "composites", "image_size": 320,
      "adapter": {"method": "full"}, "augmentation": ["flip"], "n_epochs": 2, "batch_size": 8}'
"""

import argparse
import io
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fashion_mnist import read_idx
from numpy.typing import NDArray
from PIL import Image

PACKAGES = ("dataset-fashion-mnist", "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
HELD_OUT_PHOTOS = 4
_ITEM_LEVEL = 16
"""Of 0..255: what is brighter is the item."""

Pixels = NDArray[np.uint8]


def unpack(debs: Sequence[Path], folder: Path, *, packages: Sequence[str] = PACKAGES) -> Path:
    """Unpack the packages, downloading them when none is given; nothing is installed."""
    if not debs:
        subprocess.run(["apt-get", "download", *packages], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        debs = sorted(folder.glob("*.deb"))
    out = folder / "unpacked"
    for deb in debs:
        subprocess.run(["dpkg-deb", "-x", str(deb), str(out)], check=True)
    return out


def read_photos(folder: Path, side: int) -> list[Pixels]:
    """The photographs by name, each made so small that crops of `side` pixels show something of it."""
    photos = []
    for path in sorted(folder.rglob("backgrounds/*.jpg"), key=lambda path: path.name):
        with Image.open(path) as image:
            size = round(2.25 * side), round(1.6875 * side)
            photos.append(np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS)))
    return photos


def compose(
    items: Pixels, photos: Sequence[Pixels], side: int, chance: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """A picture (side, side, 3) and its mask (side, side), 255 where the item is."""
    across = int(chance.integers(round(0.19 * side), round(0.375 * side)))
    item = items[chance.integers(len(items))]
    large = np.asarray(Image.fromarray(item).resize((across, across), Image.Resampling.BILINEAR))
    photo = photos[chance.integers(len(photos))]
    top, left = chance.integers(photo.shape[0] - side), chance.integers(photo.shape[1] - side)
    picture = photo[top : top + side, left : left + side].copy()
    mask = np.zeros((side, side), np.uint8)
    row, column = chance.integers(side - across, size=2)
    place = np.s_[row : row + across, column : column + across]
    is_item = large > _ITEM_LEVEL
    picture[place] = np.where(is_item[..., None], large[..., None], picture[place])
    mask[place] = np.where(is_item, 255, 0)
    return picture, mask


def write_zip(source: Path, out: Path, *, side: int, counts: dict[str, int], seed: int) -> None:
    """Write the archive: so many pictures of each split."""
    photos = read_photos(source, side)
    items = {
        prefix: read_idx(next(source.rglob(f"{prefix}-images-idx3-ubyte*"))) for prefix in ("train", "t10k")
    }
    chance = np.random.default_rng(seed)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for split, count in counts.items():
            is_test = split == "test"
            chosen = photos[-HELD_OUT_PHOTOS:] if is_test else photos[:-HELD_OUT_PHOTOS]
            for index in range(count):
                picture, mask = compose(items["t10k" if is_test else "train"], chosen, side, chance)
                for folder, pixels in (("images", picture), ("masks", mask)):
                    png = io.BytesIO()
                    Image.fromarray(pixels).save(png, "PNG", compress_level=1)
                    archive.writestr(f"{split}/{folder}/{index:04d}.png", png.getvalue())
    print(f"{sum(counts.values())} pictures of {len(photos)} photographs in {out}")


def main() -> None:
    """Fetch, unpack, compose, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--deb", type=Path, action="append", default=[], help="a package's file; thrice")
    parser.add_argument("--side", type=int, default=320, help="of the pictures, pixels")
    parser.add_argument("--train", type=int, default=600, help="pictures to train on")
    parser.add_argument("--test", type=int, default=100, help="pictures held out")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = {"train": arguments.train, "valid": max(16, arguments.train // 10), "test": arguments.test}
    with tempfile.TemporaryDirectory() as name:
        source = unpack(arguments.deb, Path(name))
        write_zip(source, arguments.out, side=arguments.side, counts=counts, seed=arguments.seed)


if __name__ == "__main__":
    main()
