"""Makes a zip of scikit-learn's handwritten digits: 1,797 real images, 64 x 64 PNG, one folder per digit.

    python examples/digits.py digits.zip

The originals are 8 x 8 pixels with 17 shades (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
CC BY 4.0), and lie beside this file as scikit-learn has them: a line per image, its 64 shades row by row,
then the digit. They are scaled up, ink dark on white. The same versions write the same bytes.
"""

import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

TABLE = Path(__file__).with_name("digits.csv.gz")
SIDE = 64
DATE = (1998, 7, 1, 0, 0, 0)


def write_digits(path: Path) -> int:
    """Write the zip; returns the number of images."""
    with gzip.open(TABLE, "rt") as table:
        digits = np.loadtxt(table, delimiter=",", dtype=np.uint8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, line in enumerate(digits):
            name = zipfile.ZipInfo(f"digits/{line[64]}/{number:04d}.png", DATE)
            archive.writestr(name, as_png(line[:64].reshape(8, 8)))
    return len(digits)


def as_png(shades: np.ndarray) -> bytes:
    """(8, 8) shades of ink, 0..16, to a PNG."""
    small = Image.fromarray((255 - shades * (255 / 16)).astype(np.uint8))
    out = io.BytesIO()
    small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def main() -> None:
    """Write to the path that is given."""
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/digits.py OUT.zip")
    path = Path(sys.argv[1])
    print(f"{write_digits(path)} images in {path}")


if __name__ == "__main__":
    main()
