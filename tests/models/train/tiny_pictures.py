"""A small set of pictures to enlarge, and what trains on it."""

import io

import numpy as np
from PIL import Image

from models.build.network import build_restorer, tiles_of
from models.catalogue import CATALOGUE, Kind
from models.data.pack import Pack, PackWriter, Split
from models.tasks.restoration import smaller
from models.train.resolve import resolve
from models.train.spec import read_spec
from tests.models.train.tiny_runs import WholeNetwork

SIDE = 64
ARCHITECTURE = CATALOGUE.get(Kind.ARCHITECTURE, "espcn_residual")


_FINER = 4


def stripes(chance, *, side=SIDE):
    """A picture of sharp slanted stripes in two colours, which cubic interpolation blurs."""
    rows, columns = np.mgrid[: _FINER * side, : _FINER * side] / _FINER
    angle, width = chance.uniform(0, np.pi), chance.uniform(6, 10)
    is_first = (rows * np.sin(angle) + columns * np.cos(angle)) % (2 * width) < width
    colours = np.array([chance.integers(0, 90, 3), chance.integers(160, 256, 3)], np.float64)
    fine = colours[is_first.astype(int)].reshape(side, _FINER, side, _FINER, 3)
    return np.rint(fine.mean(axis=(1, 3))).astype(np.uint8)


def encoded(pixels):
    """A PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_picture_pack(path, *, training=8, others=3, ratio=None):
    """Stripes; with a ratio, in pairs."""
    chance = np.random.default_rng(3)
    with PackWriter(path, ["picture"], ratio=ratio) as writer:
        counts = {Split.TRAIN: training, Split.VALIDATION: others, Split.TEST: others}
        for split, number in counts.items():
            for at in range(number):
                large = stripes(chance, side=SIDE // 12 * 12)
                small = None if ratio is None else writer.add_beside(encoded(smaller(large, ratio)))
                size = {"width": large.shape[1], "height": large.shape[0]}
                writer.add(
                    encoded(large), name=f"{split}/{at}.png", label=0, split=split, beside=small, **size
                )
        writer.finish()
    return Pack(path)


class TinyRestorer(WholeNetwork):
    """The residual ESPCN, all of it trained."""

    def __init__(self, scale=2):
        self.network = build_restorer(ARCHITECTURE, scale=scale, seed=2)
        self.tiles = tiles_of(self.network, scale)

    @property
    def head_parameters(self):
        return tuple(self.network.phases.parameters())


def resolved_pictures(pack, **raw):
    """A frozen spec of a few steps."""
    raw = {
        "task": "super-resolution",
        "model": "espcn_residual",
        "adapter": "full",
        "threads": 1,
        "batch_size": 4,
        "n_epochs": 2,
        "image_size": 24,
        "augmentation": [],
        **raw,
    }
    return resolve(read_spec(raw), ARCHITECTURE, pack=pack, is_pretrained=False)
