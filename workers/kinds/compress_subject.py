"""What a compression is about: the version, and pictures to calibrate on and to compare on."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from models.export.decisions import psnr_db, squared_error
from models.export.parity import Kept, kept_of
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, Manifest, Task, TileFacts
from models.tasks.classification import ClassificationCodec
from models.tasks.codecs import VersionCodec, codec_of
from models.tasks.images import ImageError, ImageLimits
from models.tasks.restoration import RestorationCodec
from models.tasks.tiles import TileGrid
from workers.context import JobContext
from workers.kinds.compress_pictures import Gallery, Shown, WholePictures, Windows, places

_HELD_OUT = 512
_MOST_MAP_BYTES = 16 << 20
"""Of all maps of held-out pictures, or what is made of them, in the version's reference: fewer then,"""
_LEAST_MAPS, _LARGEST_REFERENCE_BYTES = 16, 480 << 20
"""but so many, unless a reference cannot hold them."""
_MOST_CHOSEN_BYTES = 512 << 20
"""Of pixels and outputs that are held while it is chosen what stays in float32."""
_PIXELS_AT_ONCE = 2**18
"""Of what goes through a graph at once: all that flows between its layers may be looked at."""
_PIXELS_SERVED = 2**20
"""The same of a batch, where nobody has measured how many there should be."""
_UNLIKE = (16, 48), (64, 16), (48, 64), (4096, 4096)
"""(height, width) of pictures whose windows have different sizes, if a window is as large as they are."""
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
    large: tuple[NDArray[np.uint8], ...] | None = None
    """What an enlarger should make of each, (h, w, 3)."""
    of: int
    """Held-out pictures that there are; of windows, as many as are compared."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A version, ready to be compressed."""

    model: str
    """`name:number`"""
    name: str
    manifest: Manifest
    graph: Path
    graph_sha256: str
    codec: VersionCodec
    noun: str
    """What the samples are."""
    calibration: tuple[bytes, ...]
    """Encoded pictures for training."""
    choosing: tuple[bytes, ...]
    """Pictures on which it is decided how much stays in float32: those for validation, which training has not
    fitted, where others are held out, else those for calibration."""
    held: Held
    batch: int
    """Most pictures per run, as the version is served on this machine; up to eight where nobody has
    measured."""

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

    def kept(self, outputs: NDArray[np.float32], before: NDArray[np.float32]) -> Kept:
        """How much finite outputs of one picture keep of what was given before."""
        return kept_of(self.codec, outputs, before)

    def decision(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """What finite outputs of one picture say: the index of its label (), or that of each pixel."""
        if isinstance(self.codec, ClassificationCodec):
            return np.asarray(outputs.argmax())
        assert not isinstance(self.codec, RestorationCodec)  # it says nothing
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

    def psnr_db(self, outputs: Iterable[NDArray[np.float32]]) -> float | None:
        """The same of an enlarger: PSNR of what it makes with what it should."""
        if self.held.large is None:
            return None
        assert self.manifest.tiles is not None
        inner = (
            _inner(one, large, self.manifest.tiles)
            for one, large in zip(outputs, self.held.large, strict=True)
        )
        return psnr_db(squared_error(made, wanted) for made, wanted in inner)

    @property
    def makes_pictures(self) -> bool:
        """It says nothing, it makes something."""
        return self.manifest.task is Task.SUPER_RESOLUTION

    @property
    def has_maps(self) -> bool:
        """Pixels get labels, not pictures."""
        return self.manifest.task is Task.SEGMENTATION

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of one input as it is served, of windows the largest."""
        return self.manifest.preprocessing.height, self.manifest.preprocessing.width, 3

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(H, W) of some inputs, as unlike as they can be."""
        tiles = self.manifest.tiles
        if tiles is None:
            return (self.shape[:2],)
        grids = (
            TileGrid(min(tiles.side, height), min(tiles.side, width), tiles) for height, width in _UNLIKE
        )
        return tuple(grid.window_size for grid in grids)

    @cached_property
    def most(self) -> int:
        """Inputs of a run here. Raises as `decoded`."""
        _, height, width, _ = self.decoded(self.held.samples[:1]).shape
        at_once = _PIXELS_AT_ONCE // (height * width * _scale(self.manifest) ** 2)
        return int(max(1, min(BATCH, self.manifest.max_batch or BATCH, at_once)))


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
    pack = Pack(context.objects.fetch(context.principal, dataset.sha256))
    gallery = _gallery(context, pack, version.manifest, codec.limits)
    held = _held(pack, gallery, spec.dataset, version.manifest)
    return Subject(
        model=spec.model,
        name=reference.name,
        manifest=version.manifest,
        graph=context.objects.fetch(context.principal, artifact.sha256),
        graph_sha256=artifact.sha256,
        codec=codec,
        noun=gallery.noun,
        calibration=(calibration := _calibration(gallery, spec.dataset, held)),
        choosing=_few(_choosing(gallery, held) or calibration, _most_chosen(gallery, version.manifest)),
        held=held,
        batch=_batch(plan, version.manifest),
    )


def _gallery(context: JobContext, pack: Pack, manifest: Manifest, limits: ImageLimits) -> Gallery:
    if manifest.tiles is None:
        return WholePictures(pack, manifest)
    windows = Windows(pack, manifest, limits, before_each=context.leave_if_asked)
    if windows.too_small:
        left_out = f"{windows.too_small} of {len(pack.items)} pictures are left out"
        context.message(f"Windows have {windows.side} pixels a side; {left_out}, which are smaller.")
    return windows


def outputs(
    context: JobContext, session: ServedSession, batches: Iterable[NDArray[np.uint8]]
) -> Iterator[NDArray[np.float32]]:
    """Of each picture, those of one batch at a time. Raises Interrupted, ServedGraphError."""
    for images in batches:
        context.leave_if_asked()
        yield from session.run(images)


def _inner(
    made: NDArray[np.float32], large: NDArray[np.uint8], tiles: TileFacts
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3, h, w) of what was made of a window without its context, and of what should be, both in 0..1."""
    cut, (height, width, _) = tiles.context * tiles.scale, large.shape
    wanted = np.asarray(large.transpose(2, 0, 1) / 255, np.float32)
    return made[:, cut : cut + height, cut : cut + width], wanted


def _most_chosen(gallery: Gallery, manifest: Manifest) -> int:
    how = manifest.preprocessing
    picture_bytes = 3 * how.height * how.width + gallery.output_bytes
    return max(1, min(gallery.to_choose, _MOST_CHOSEN_BYTES // picture_bytes))


def _most_held(gallery: Gallery, manifest: Manifest) -> int:
    """How many held-out pictures are compared."""
    if manifest.task is Task.CLASSIFICATION:
        return _HELD_OUT
    least = min(_LEAST_MAPS, _LARGEST_REFERENCE_BYTES // gallery.output_bytes)
    return max(1, least, min(_HELD_OUT, _MOST_MAP_BYTES // gallery.output_bytes))


def _batch(plan: Plan | None, manifest: Manifest) -> int:
    most = _PIXELS_SERVED // _pixels_of(manifest)
    batch = min(BATCH, max(1, most)) if plan is None else plan.batch
    return min(batch, manifest.max_batch or BATCH)


def _pixels_of(manifest: Manifest) -> int:
    """Of an input of full size, or of what is made of it."""
    return manifest.preprocessing.height * manifest.preprocessing.width * _scale(manifest) ** 2


def _scale(manifest: Manifest) -> int:
    return 1 if manifest.tiles is None else manifest.tiles.scale


def _held(pack: Pack, gallery: Gallery, dataset: str, manifest: Manifest) -> Held:
    split = Split.TEST if pack.of(Split.TEST) else Split.VALIDATION
    shown = gallery.shown(split, _most_held(gallery, manifest))
    if not shown.samples:
        raise InvalidSpec(
            f"{dataset} holds no pictures out, so there is nothing to compare on.",
            param="dataset",
            hint="Make a version of it with a test_share.",
        )
    if manifest.task is Task.SUPER_RESOLUTION:
        return Held(split=split, samples=shown.samples, of=len(shown.samples), large=shown.large)
    of = len(pack.of(split)) if manifest.tiles is None else len(shown.samples)
    if manifest.task is Task.SEGMENTATION:
        return Held(split=split, samples=shown.samples, of=of, masks=_masks(pack, shown.items, manifest))
    labels = None
    if set(pack.labels) <= set(manifest.labels):
        labels = tuple(pack.labels[item.label] for item in shown.items)
    return Held(split=split, samples=shown.samples, of=of, labels=labels)


def _masks(pack: Pack, items: Sequence[Item], manifest: Manifest) -> tuple[Mask, ...] | None:
    is_exclusive = manifest.masks is None or manifest.masks.activation == "softmax"
    is_one = len(pack.labels) == len(manifest.labels) == 1 and not is_exclusive  # whatever it is called
    is_same = pack.labels == manifest.labels and is_exclusive
    if manifest.preprocessing.fit != "squash" or not (is_one or is_same):
        return None
    height, width = manifest.outputs[0].shape[2:]
    return tuple(fit_mask(pack.read_mask(item), height, width) for item in items)


def _calibration(gallery: Gallery, dataset: str, held: Held) -> tuple[bytes, ...]:
    """Pictures for training; one that is also held out, under another name, is left out."""
    fresh = _unknown(gallery.shown(Split.TRAIN, gallery.to_calibrate), held)
    if not fresh:
        raise InvalidSpec(
            f"{dataset} has no pictures for training to calibrate on.",
            param="dataset",
            hint="Make a version of it with some.",
        )
    return fresh


def _choosing(gallery: Gallery, held: Held) -> tuple[bytes, ...]:
    if held.split is Split.VALIDATION:
        return ()
    return _unknown(gallery.shown(Split.VALIDATION, gallery.to_choose), held)


def _unknown(shown: Shown, held: Held) -> tuple[bytes, ...]:
    known = set(held.samples)
    return tuple(sample for sample in shown.samples if sample not in known)


def _few(samples: tuple[bytes, ...], most: int) -> tuple[bytes, ...]:
    return tuple(samples[at] for at in places(len(samples), most))
