"""A small data set, a small network, and a run of both."""

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import nn

from models.catalogue import CATALOGUE, Kind
from models.data.pack import Pack, PackWriter, Split
from models.manifest import Preprocessing
from models.train.feed import PackSource
from models.train.loop import Hooks, TrainRun, train
from models.train.resolve import resolve
from models.train.spec import read_spec

SIDE = 16
ARCHITECTURE = replace(
    CATALOGUE.get(Kind.ARCHITECTURE, "resnet18"),
    id="tiny",
    image_size=SIDE,
    smallest_size=SIDE,
    side_multiple=SIDE,
)
PREPROCESSING = Preprocessing(height=SIDE, width=SIDE, crop=1.0, mean=ARCHITECTURE.mean, std=ARCHITECTURE.std)


def write_pack(path, *, counts=(20, 14, 8), validation=6):
    """Noisy stripes, one direction or the other or none, by label."""
    random = np.random.default_rng(7)
    labels = [f"label-{index}" for index in range(len(counts))]
    with PackWriter(path, labels) as writer:
        for split, numbers in ((Split.TRAIN, counts), (Split.VALIDATION, (validation,) * len(counts))):
            for label, number in enumerate(numbers):
                for index in range(number):
                    pixels = random.integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
                    if label < 2:
                        stripes = pixels if label else pixels.transpose(1, 0, 2)
                        stripes[int(random.integers(2)) :: 2] += 150
                    encoded = io.BytesIO()
                    Image.fromarray(pixels).save(encoded, "PNG")
                    name = f"{split}/{label}/{index}.png"
                    writer.add(
                        encoded.getvalue(), name=name, label=label, split=split, width=SIDE, height=SIDE
                    )
        writer.finish()
    return Pack(path)


class WholeNetwork:
    """A trainable of which everything is trained, and nothing but the network counts. Has a `network`."""

    def train_mode(self):
        self.network.train()

    def add_penalty(self):
        pass

    def after_step(self, step):
        pass


class TinyTrainable:
    """A convolutional network with a batch norm and dropout; as `full`, or with a frozen first half."""

    def __init__(self, *, is_full=True, classes=3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.network = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Dropout(0.2),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(64, classes),
            )
        self.is_full = is_full
        self.calls = []
        if not is_full:
            for module in self.network[:2]:
                module.requires_grad_(False)

    @property
    def head_parameters(self):
        return tuple(self.network[8].parameters())

    def train_mode(self):
        self.network.train()
        if not self.is_full:
            self.network[1].eval()

    def add_penalty(self):
        self.calls.append("penalty")

    def after_step(self, step):
        assert self.network[8].weight.grad is not None
        self.calls.append(step)


def resolved(pack, **raw):
    raw = {"model": "tiny", "adapter": "full", "threads": 1, "batch_size": 8, "n_epochs": 3, **raw}
    return resolve(read_spec(raw), ARCHITECTURE, pack=pack, is_pretrained=False)


def train_run(pack, spec, folder, *, resume=None, trainable=None):
    folder.mkdir(exist_ok=True, parents=True)
    return TrainRun(
        adapted=trainable or TinyTrainable(is_full=spec.adapter.method == "full"),
        spec=spec,
        batches=PackSource.of(pack, Split.TRAIN, spec, preprocessing=PREPROCESSING),
        validation=PackSource.of(pack, Split.VALIDATION, spec, preprocessing=PREPROCESSING),
        resume=resume,
        work_dir=folder,
    )


class Diary:
    """What a run tells."""

    def __init__(self, *, stop_after=None):
        self.rows, self.checkpoints, self.told, self.fractions = {}, {}, {}, []
        self._stop_after, self._asked = stop_after, 0

    def hooks(self):
        return Hooks(
            metrics=self._metrics,
            checkpoint=self._checkpoint,
            progress=self.fractions.append,
            should_stop=self._should_stop,
        )

    def _metrics(self, step, values):
        assert step not in self.rows
        times = {"images_per_s", "data_wait_share"}
        assert times <= values.keys()
        self.rows[step] = {name: value for name, value in values.items() if name not in times}

    def _checkpoint(self, step, path, metrics):
        assert step not in self.checkpoints
        self.checkpoints[step], self.told[step] = path, metrics

    def _should_stop(self):
        self._asked += 1
        return self._asked == self._stop_after


def bits(network):
    """All parameters and buffers, comparable."""
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}


def run_through(pack, spec, folder, **more):
    """Network, diary and ending of a run."""
    run, diary = train_run(pack, spec, folder, **more), Diary()
    trained = train(run, diary.hooks())
    return run.adapted, diary, trained
