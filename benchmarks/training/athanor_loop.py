"""The loop of fine-tuning jobs, as a job runs it, but for checkpoints and validation.

It does what the baselines do, and besides: deterministic algorithms, a seed per step, a row of metrics per
step (as in every run of up to 500 steps), the question whether to stop, a look at what else the cores do.
"""

import tempfile
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter

from benchmarks.training.setting import (
    CLIP_NORM,
    FLIP_SHARE,
    LARGEST_ASPECT,
    NETWORK,
    RANK,
    RATE,
    SMALLEST_AREA,
    Setting,
    tell,
)
from models.adapt.adapter import adapt
from models.build.network import build_network, head_of
from models.catalogue import CATALOGUE, Kind
from models.catalogue.architecture import Architecture
from models.data.pack import Pack, Split
from models.manifest import Preprocessing
from models.train.feed import BatchSource, PackSource, TensorSource
from models.train.loop import Hooks, TrainRun, train
from models.train.resolve import ResolvedSpec, resolve
from models.train.spec import read_spec
from workers.waiting import Waiting


def main() -> None:
    """Train; print what it took."""
    setting = Setting.from_argument()
    pack = Pack(setting.folder / "photos.pack")
    architecture = CATALOGUE.get(Kind.ARCHITECTURE, NETWORK)
    assert isinstance(architecture, Architecture)
    spec = _spec(setting, pack, architecture)
    network = build_network(architecture, num_classes=len(pack.labels), image_size=setting.image_size)
    adapted = adapt(
        network,
        spec.adapter.row(Kind.ADAPTER),
        spec.adapter.told(Kind.ADAPTER),
        architecture=architecture,
        head=head_of(network),
        total_steps=spec.total_steps,
    )
    marks_s: list[float] = []
    losses: list[float] = []

    def should_stop() -> bool:
        marks_s.append(perf_counter())
        return False

    with (
        Waiting() if setting.waiting == "watched" else nullcontext(),
        tempfile.TemporaryDirectory() as folder,
    ):
        train(
            TrainRun(
                adapted=adapted,
                spec=spec,
                batches=_batches(setting, spec, pack, architecture),
                work_dir=Path(folder),
            ),
            Hooks(
                metrics=lambda _step, values: losses.append(values["train_loss"]),
                should_stop=should_stop,
            ),
        )
    tell(setting, marks_s, trainable=adapted.trainable_parameters, loss=losses[-1])


def _spec(setting: Setting, pack: Pack, architecture: Architecture) -> ResolvedSpec:
    crop = {
        "method": "random_resized_crop",
        "smallest_area": SMALLEST_AREA,
        "largest_aspect": LARGEST_ASPECT,
    }
    raw = {
        "model": NETWORK,
        "adapter": {"method": "lora", "r": RANK},
        "augmentation": [crop, {"method": "flip", "share": FLIP_SHARE}],
        "learning_rate": RATE,
        "clip_norm": CLIP_NORM,
        "batch_size": setting.batch_size,
        "image_size": setting.image_size,
        "max_steps": setting.steps,
        "threads": setting.threads,
        "checkpoint_every_steps": setting.steps,
    }
    return resolve(read_spec(raw), architecture, pack=pack)


def _batches(setting: Setting, spec: ResolvedSpec, pack: Pack, architecture: Architecture) -> BatchSource:
    if not setting.reads_files:
        images, targets = setting.tensors()
        return TensorSource(images, targets, batch_size=setting.batch_size, shuffle_seed=0)
    side = setting.image_size
    preprocessing = Preprocessing(
        height=side, width=side, crop=1.0, mean=architecture.mean, std=architecture.std
    )
    return PackSource.of(pack, Split.TRAIN, spec, preprocessing=preprocessing)


if __name__ == "__main__":
    main()
