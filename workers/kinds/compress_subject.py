"""What a compression is about: the version, and pictures to calibrate on and to compare on."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.compression.spec import CompressSpec
from app.datasets.service import DatasetService
from app.db.session import Database
from app.errors import InvalidSpec, NotServable, image_error
from app.registry.reference import parse_reference
from app.registry.service import Registry
from app.runtime.plan import Plan, machine_key, serving_cores
from app.runtime.providers import Providers
from app.runtime.tunings import TuningStore
from models.data.masks import Mask, fit_mask
from models.data.pack import Item, Pack, Split
from models.evaluate.masks import MaskTally
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, Manifest, Task
from models.tasks.classification import ClassificationCodec
from models.tasks.codecs import codec_of
from models.tasks.images import ImageError, ImageLimits
from models.tasks.segmentation import SegmentationCodec
from workers.context import JobContext

_TO_CALIBRATE = 128
_TO_CHOOSE = 256
_HELD_OUT = 512
_MOST_MAP_BYTES = 16 << 20
"""Of all maps of held-out pictures, which lie in the version's reference: fewer pictures then,"""
_LEAST_MAPS, _LARGEST_REFERENCE_BYTES = 16, 480 << 20
"""but so many, unless a reference cannot hold them."""
_MOST_CHOSEN_BYTES = 512 << 20
"""Of pixels and outputs that are held while it is chosen what stays in float32."""
_PIXELS_AT_ONCE = 2**18
"""Of what goes through a graph at once: all that flows between its layers may be looked at."""
BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Held:
    """Pictures that calibration has not seen."""

    split: Split
    samples: tuple[bytes, ...]
    """Encoded."""
    labels: tuple[str, ...] | None = None
    """The right one of each; None where the data set's labels are not the model's."""
    masks: tuple[Mask, ...] | None = None
    """The same for a segmenter, at its maps' size; None also where its maps are not the whole picture."""
    of: int
    """Held-out pictures that there are."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A version, ready to be compressed."""

    model: str
    """`name:number`"""
    name: str
    manifest: Manifest
    graph: Path
    graph_sha256: str
    codec: ClassificationCodec | SegmentationCodec
    calibration: tuple[bytes, ...]
    """Encoded pictures for training."""
    choosing: tuple[bytes, ...]
    """Pictures on which it is decided how much stays in float32: those for validation, which training has not
    fitted, where others are held out, else those for calibration."""
    held: Held
    batch: int
    """Most pictures per run, as the version is served on this machine; eight where nobody has measured."""

    def batches(self, samples: Sequence[bytes]) -> Iterator[NDArray[np.uint8]]:
        """(n, H, W, 3), a few at a time. Raises as `decoded`."""
        for start in range(0, len(samples), self.most):
            yield self.decoded(samples[start : start + self.most])

    def decoded(self, samples: Collection[bytes]) -> NDArray[np.uint8]:
        """(n, H, W, 3). Raises ImageUndecodable and what else a decoder refuses."""
        try:
            return np.stack([self.codec.decode(sample) for sample in samples])
        except ImageError as error:
            raise image_error(error) from error

    def decision(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """What finite outputs of one picture say: the index of its label (), or that of each pixel."""
        if isinstance(self.codec, ClassificationCodec):
            return np.asarray(outputs.argmax())
        return self.codec.decisions(outputs)

    def accuracy(self, outputs: Iterable[NDArray[np.float32]]) -> float | None:
        """Share of the held-out pictures whose label is right. None where nobody knows."""
        if self.held.labels is None:
            return None
        names = self.manifest.labels
        said = [names[int(self.decision(one))] for one in outputs]
        right = [label == name for label, name in zip(self.held.labels, said, strict=True)]
        return right.count(True) / len(right)

    def mean_iou(self, outputs: Iterable[NDArray[np.float32]]) -> float | None:
        """The same of what is said of each pixel: the mean over labels of intersection over union."""
        if self.held.masks is None:
            return None
        tally = MaskTally(len(self.manifest.labels))
        for one, mask in zip(outputs, self.held.masks, strict=True):
            said = self.decision(one)
            tally.add((said if said.ndim == 2 else said[0])[None].astype(np.uint8), mask[None])
        return tally.mean_iou

    @property
    def has_maps(self) -> bool:
        """Pixels get labels, not pictures."""
        return self.manifest.task is Task.SEGMENTATION

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of one input."""
        return self.manifest.preprocessing.height, self.manifest.preprocessing.width, 3

    @property
    def most(self) -> int:
        """Inputs of a run here."""
        height, width, _ = self.shape
        return max(1, min(BATCH, self.manifest.max_batch or BATCH, _PIXELS_AT_ONCE // (height * width)))


def bring_subject(context: JobContext, spec: CompressSpec) -> Subject:
    """Fetch the version and its pictures.

    Raises:
        UnknownModel, UnknownVersion, UnknownDataset, NotServable: it has gone.
        InvalidSpec: the data set has no pictures to calibrate on, or none held out.

    """
    reference = parse_reference(spec.model)
    database = Database(context.settings.sqlalchemy_url)
    try:
        version = Registry(database, context.objects).get_version(
            context.principal, reference.name, reference.number or 0
        )
        dataset = DatasetService(database, context.objects).get_version(context.principal, spec.dataset)
        artifact = version.artifact(MODEL_FILE)
        if artifact is None:
            raise NotServable(f"{spec.model} has no {MODEL_FILE}.", hint="Import it again.")
        cores, providers = serving_cores(context.settings.cpu_threads), Providers.of(context.settings)
        machine = machine_key(cores, providers)
        plan = TuningStore(database).find(artifact.sha256, machine)
    finally:
        database.close()
    codec = codec_of(version.manifest, ImageLimits(max_pixels=context.settings.max_image_pixels))
    assert isinstance(codec, ClassificationCodec | SegmentationCodec)  # others have been refused at the door
    pack = Pack(context.objects.fetch(context.principal, dataset.sha256))
    held = _held(pack, spec.dataset, version.manifest)
    return Subject(
        model=spec.model,
        name=reference.name,
        manifest=version.manifest,
        graph=context.objects.fetch(context.principal, artifact.sha256),
        graph_sha256=artifact.sha256,
        codec=codec,
        calibration=(calibration := _calibration(pack, spec.dataset, held)),
        choosing=_few(_choosing(pack, held) or calibration, _most_chosen(version.manifest)),
        held=held,
        batch=_batch(plan, version.manifest),
    )


def outputs(
    context: JobContext, session: ServedSession, batches: Iterable[NDArray[np.uint8]]
) -> Iterator[NDArray[np.float32]]:
    """Of each picture, those of one batch at a time. Raises Interrupted, ServedGraphError."""
    for images in batches:
        context.leave_if_asked()
        yield from session.run(images)


def _output_bytes(manifest: Manifest) -> int:
    return 4 * prod(manifest.outputs[0].shape[1:])


def _most_chosen(manifest: Manifest) -> int:
    how = manifest.preprocessing
    picture_bytes = 3 * how.height * how.width + _output_bytes(manifest)
    return max(1, min(_TO_CHOOSE, _MOST_CHOSEN_BYTES // picture_bytes))


def _most_held(manifest: Manifest) -> int:
    """How many held-out pictures are compared."""
    if manifest.task is not Task.SEGMENTATION:
        return _HELD_OUT
    map_bytes = _output_bytes(manifest)
    least = min(_LEAST_MAPS, _LARGEST_REFERENCE_BYTES // map_bytes)
    return max(1, least, min(_HELD_OUT, _MOST_MAP_BYTES // map_bytes))


def _batch(plan: Plan | None, manifest: Manifest) -> int:
    return min(BATCH if plan is None else plan.batch, manifest.max_batch or BATCH)


def _held(pack: Pack, dataset: str, manifest: Manifest) -> Held:
    split = Split.TEST if pack.of(Split.TEST) else Split.VALIDATION
    items = _spread(pack.of(split), _most_held(manifest))
    if not items:
        raise InvalidSpec(
            f"{dataset} holds no pictures out, so there is nothing to compare on.",
            param="dataset",
            hint="Make a version of it with a test_share.",
        )
    samples, of = tuple(pack.read(item) for item in items), len(pack.of(split))
    if manifest.task is Task.SEGMENTATION:
        return Held(split=split, samples=samples, of=of, masks=_masks(pack, items, manifest))
    labels = None
    if set(pack.labels) <= set(manifest.labels):
        labels = tuple(pack.labels[item.label] for item in items)
    return Held(split=split, samples=samples, of=of, labels=labels)


def _masks(pack: Pack, items: list[Item], manifest: Manifest) -> tuple[Mask, ...] | None:
    is_exclusive = manifest.masks is None or manifest.masks.activation == "softmax"
    is_one = len(pack.labels) == len(manifest.labels) == 1 and not is_exclusive  # whatever it is called
    is_same = pack.labels == manifest.labels and is_exclusive
    if manifest.preprocessing.fit != "squash" or not (is_one or is_same):
        return None
    height, width = manifest.outputs[0].shape[2:]
    return tuple(fit_mask(pack.read_mask(item), height, width) for item in items)


def _calibration(pack: Pack, dataset: str, held: Held) -> tuple[bytes, ...]:
    """Pictures for training; one that is also held out, under another name, is left out."""
    known = set(held.samples)
    samples = [pack.read(item) for item in _spread(pack.of(Split.TRAIN), _TO_CALIBRATE)]
    fresh = tuple(sample for sample in samples if sample not in known)
    if not fresh:
        raise InvalidSpec(
            f"{dataset} has no pictures for training to calibrate on.",
            param="dataset",
            hint="Make a version of it with some.",
        )
    return fresh


def _choosing(pack: Pack, held: Held) -> tuple[bytes, ...]:
    if held.split is Split.VALIDATION:
        return ()
    samples = [pack.read(item) for item in _spread(pack.of(Split.VALIDATION), _TO_CHOOSE)]
    return tuple(sample for sample in samples if sample not in set(held.samples))


def _few(samples: tuple[bytes, ...], most: int) -> tuple[bytes, ...]:
    return tuple(samples[at] for at in _places(len(samples), most))


def _spread(items: list[Item], most: int) -> list[Item]:
    return [items[at] for at in _places(len(items), most)]


def _places(length: int, most: int) -> list[int]:
    """At most so many, evenly over the whole length."""
    if length <= most:
        return list(range(length))
    return [int(at) for at in np.linspace(0, length - 1, most)]
