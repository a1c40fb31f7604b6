"""The request body of every cell: one 512x512 JPEG photograph of about 60 KB."""

import io
from pathlib import Path

SIDE = 512


def write_photo(path: Path) -> Path:
    """Encode scikit-image's astronaut as cameras and sites do: 4:2:0, baseline, about 60 KB."""
    from PIL import Image
    from skimage import data

    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()).save(buffer, "JPEG", quality=88, subsampling="4:2:0")
    path.write_bytes(buffer.getvalue())
    return path
