"""Makes a zip of scikit-learn's handwritten digits: 1,797 real images, 64 x 64 PNG, one folder per digit.

    python examples/digits.py digits.zip

The originals are 8 x 8 pixels with 17 shades (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
CC BY 4.0); they are scaled up, ink dark on white. The same versions write the same bytes.
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIDE = 64
DATE = (1998, 7, 1, 0, 0, 0)


def write_digits(path: Path) -> int:
    """Write the zip; returns the number of images."""
    digits = load_digits()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, (shades, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            name = zipfile.ZipInfo(f"digits/{digit}/{number:04d}.png", DATE)
            archive.writestr(name, as_png(shades))
    return len(digits.target)


def as_png(shades: np.ndarray) -> bytes:
    """(8, 8) shades of ink, 0..16, to a PNG."""
    small = Image.fromarray((255 - shades * 255 / 16).astype(np.uint8))
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
