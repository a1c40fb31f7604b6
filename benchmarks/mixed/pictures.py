"""Photographs in many sizes and formats, and as many pixels in one size."""

import io
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "JPEG progressive", "PNG", "PNG palette", "WebP", "BMP", "GIF", "TIFF")
SHORTEST, LONGEST = 160, 2048
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "motorcycle_left")


@dataclass(frozen=True)
class Sent:
    """One encoded picture."""

    data: bytes
    width: int
    height: int
    format: str

    @property
    def pixels(self) -> int:
        """As its sides say."""
        return self.width * self.height


def mixed_and_same(count: int, *, seed: int) -> tuple[list[Sent], list[Sent]]:
    """`count` pictures whose sides lie between 160 and 2,048, any as likely as its half; and `count` in
    squares of one size, with as many pixels in all, of the same photographs and formats."""
    chance = np.random.default_rng(seed)
    sides = np.exp(chance.uniform(np.log(SHORTEST), np.log(LONGEST), (count, 2))).round().astype(int)
    side = round(float(np.sqrt(sides.prod(axis=1).mean())))
    photographs = [_photograph(name) for name in _PHOTOGRAPHS]
    mixed, same = [], []
    for index, (width, height) in enumerate(sides.tolist()):
        photograph, format_ = photographs[index % len(photographs)], FORMATS[index % len(FORMATS)]
        mixed.append(_encoded(photograph, width, height, format_))
        same.append(_encoded(photograph, side, side, format_))
    return mixed, same


def _photograph(name: str) -> Image.Image:
    with (files("skimage") / "data" / f"{name}.png").open("rb") as file:
        return Image.open(file).convert("RGB")


def _encoded(photograph: Image.Image, width: int, height: int, format_: str) -> Sent:
    picture = photograph.resize((width, height), Image.Resampling.BICUBIC)
    name, _, how = format_.partition(" ")
    if how == "palette":
        picture = picture.quantize(256)
    file = io.BytesIO()
    if name in ("JPEG", "WebP"):
        picture.save(file, name, quality=90, progressive=how == "progressive")
    else:
        picture.save(file, name)
    return Sent(file.getvalue(), width, height, format_)
