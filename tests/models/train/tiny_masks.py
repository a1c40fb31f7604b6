"""A small set of pictures with masks, and what trains on it."""

import io

import numpy as np
import torch
from PIL import Image

from models.build.network import build_network
from models.catalogue import CATALOGUE, Kind
from models.data.masks import write_mask
from models.data.pack import Pack, PackWriter, Split
from models.manifest import Preprocessing
from models.train.resolve import resolve
from models.train.spec import read_spec
from tests.models.train.tiny_runs import WholeNetwork

SIDE = 32
ARCHITECTURE = CATALOGUE.get(Kind.ARCHITECTURE, "unet_tiny")
PREPROCESSING = Preprocessing(
    height=SIDE, width=SIDE, fit="squash", crop=1.0, mean=ARCHITECTURE.mean, std=ARCHITECTURE.std
)
COLOURS = ((40, 40, 40), (220, 60, 60), (60, 90, 220))


def disc(chance, level, *, side=SIDE):
    """A picture with a disc in a label's colour, and its mask."""
    rows, columns = np.mgrid[:side, :side]
    row, column = chance.integers(side // 4, 3 * side // 4, 2)
    mask = ((rows - row) ** 2 + (columns - column) ** 2 < (side // 4) ** 2).astype(np.uint8) * level
    pixels = np.array(COLOURS, np.int16)[mask] + chance.integers(-30, 31, (side, side, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def add_labelled(writer, pixels, mask, **facts):
    """Append a picture with its mask."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    height, width = mask.shape
    where = writer.add_beside(write_mask(mask))
    writer.add(encoded.getvalue(), width=width, height=height, beside=where, **facts)


def write_mask_pack(path, *, labels=("ground", "red", "blue"), training=12, others=6):
    """Discs in one colour for each label but the first; with one label, in one."""
    chance = np.random.default_rng(3)
    with PackWriter(path, labels) as writer:
        counts = {Split.TRAIN: training, Split.VALIDATION: others, Split.TEST: others}
        for split, number in counts.items():
            for at in range(number):
                level = 1 + at % max(1, len(labels) - 1)
                pixels, mask = disc(chance, level)
                label = level if len(labels) > 1 else 0
                add_labelled(writer, pixels, mask, name=f"{split}/{at}.png", label=label, split=split)
        writer.finish()
    return Pack(path)


class TinySegmenter(WholeNetwork):
    """The smallest U-Net, all of it trained."""

    def __init__(self, labels):
        self.network = build_network(ARCHITECTURE, num_classes=labels, image_size=SIDE, seed=2)

    @property
    def head_parameters(self):
        return tuple(self.network.head.parameters())


def resolved_masks(pack, **raw):
    """A frozen spec of a few steps."""
    raw = {
        "task": "segmentation",
        "model": "unet_tiny",
        "adapter": "full",
        "threads": 1,
        "batch_size": 4,
        "n_epochs": 2,
        "image_size": SIDE,
        "augmentation": [],
        **raw,
    }
    return resolve(read_spec(raw), ARCHITECTURE, pack=pack, is_pretrained=False)


def maps(shape, *, seed=0):
    """Random logits."""
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
