"""How near a model that enlarges twice comes to photographs, asked over HTTP."""

import io
import statistics
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.running_service import check
from models.evaluate.picture_marks import cubic, psnr
from models.tasks.restoration import smaller

_SCALE = 2


def judge_photographs(client: httpx.Client, model: str, archive: Path) -> dict[str, Any]:
    """PSNR of luminance of each picture of `test/`, halved by Pillow's cubic filter and sent to be doubled,
    and of Pillow's cubic interpolation."""
    marks, plain = {}, {}
    with zipfile.ZipFile(archive) as file:
        for name in sorted(name for name in file.namelist() if name.startswith("test/")):
            with Image.open(io.BytesIO(file.read(name))) as image:
                large = np.asarray(image.convert("RGB"))
            small = smaller(large, _SCALE)
            encoded = io.BytesIO()
            Image.fromarray(small).save(encoded, "PNG")
            answer = client.post(
                f"/v1/super-resolution?model={model}&scale={_SCALE}", content=encoded.getvalue(), timeout=600
            )
            check(answer)
            with Image.open(io.BytesIO(answer.content)) as image:
                made = np.asarray(image.convert("RGB"))
            marks[Path(name).stem] = psnr(made, large, border=_SCALE)
            plain[Path(name).stem] = psnr(cubic(small, _SCALE), large, border=_SCALE)
    return {
        "psnr": statistics.mean(marks.values()),
        "cubic_psnr": statistics.mean(plain.values()),
        "by_picture": marks,
    }
