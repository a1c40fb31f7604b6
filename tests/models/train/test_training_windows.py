"""Segmentation at pictures' own size: patches, whole pictures in windows, and a run on both."""

import math

import numpy as np
import pytest

from models.catalogue import CATALOGUE, Kind
from models.data.masks import read_mask
from models.data.pack import IGNORED, Pack, PackWriter, Split
from models.manifest import Task, TileFacts
from models.tasks.images import ImageLimits
from models.train.feed import PackSource, Reading
from models.train.loop import TrainRun, train
from models.train.mask_patches import MaskPatchSource, WholeMasks
from models.train.measure import measure
from models.train.predict import Stopped, predict_masks
from models.train.predict_windows import predict_masks_of
from models.train.sources import held_out_source, training_source
from models.train.spec import Choice, SpecError, read_spec
from tests.models.train.tiny_masks import (
    COLOURS,
    PREPROCESSING,
    SIDE,
    TinySegmenter,
    add_labelled,
    disc,
    resolved_masks,
    write_mask_pack,
)
from tests.models.train.tiny_runs import Diary, bits

SIZES = ((48, 80), (40, 24), (20, 20))
"""(height, width): larger than a patch, in part, and not at all."""
PATCH = 32


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Pictures of several sizes, each a part of a picture with a disc."""
    chance, path = np.random.default_rng(7), tmp_path_factory.mktemp("mixed") / "mixed.pack"
    with PackWriter(path, ("ground", "red", "blue")) as writer:
        for split in Split:
            for at, (height, width) in enumerate(SIZES * 2):
                pixels, mask = disc(chance, 1 + at % 2, side=max(height, width))
                pixels, mask = pixels[:height, :width], mask[:height, :width]
                add_labelled(writer, pixels, mask, name=f"{split}/{at}", label=1, split=split)
        writer.finish()
    pack = Pack(path)
    yield pack
    pack.close()


@pytest.fixture(scope="module")
def equal(tmp_path_factory):
    """Pictures as large as a patch."""
    pack = write_mask_pack(tmp_path_factory.mktemp("equal") / "equal.pack")
    yield pack
    pack.close()


def patches(pack, *, cache_bytes=None, augmentation=()):
    reading = Reading(batch_size=64, seed=5, augmentation=augmentation, cache_bytes=cache_bytes)
    items = pack.of(Split.TRAIN)
    source = MaskPatchSource(pack, items, side=PATCH, preprocessing=PREPROCESSING, reading=reading)
    images, targets = source.load(0)
    pixels = images.permute(0, 2, 3, 1).numpy() * np.array(PREPROCESSING.std) + np.array(PREPROCESSING.mean)
    return source, pixels, targets.numpy()


def resolved_tiles(pack, **raw):
    return resolved_masks(pack, fit="tiles", image_size=PATCH, **raw)


@pytest.mark.parametrize("augmentation", [(), (Choice(method="flip"), Choice(method="quarter_turns"))])
def test_a_patch_comes_with_its_part_of_the_mask_and_beyond_the_border_with_none(mixed, augmentation):
    source, pixels, targets = patches(mixed, augmentation=augmentation)
    assert source.batch_sizes == [2 * (2 + 1 + 1)]  # of 48 x 80 two fit beside each other
    assert pixels.shape == (8, PATCH, PATCH, 3)
    nearest = np.abs(pixels[..., None, :] - np.array(COLOURS)).sum(axis=-1).argmin(axis=-1)
    counts = targets != IGNORED
    assert (nearest == targets)[counts].mean() > 0.99
    assert sorted(counts.sum(axis=(1, 2)).tolist()) == [400] * 2 + [24 * 32] * 2 + [PATCH * PATCH] * 4


def test_what_does_not_fit_into_the_cache_is_the_same(mixed):
    (cached, *one), (uncached, *other) = patches(mixed), patches(mixed, cache_bytes=0)
    assert cached.is_cached
    assert not uncached.is_cached
    assert cached.pictures == uncached.pictures == cached.pictures_in(0) == 6
    for kept, decoded in zip(one, other, strict=True):
        np.testing.assert_array_equal(kept, decoded)


def test_pictures_of_one_window_are_answered_as_the_network_answers_them(equal):
    """Without surroundings, so that both are shown the same pixels."""
    spec, trainable = resolved_masks(equal), TinySegmenter(3)
    tiles = TileFacts(scale=1, side=SIDE)
    whole = WholeMasks(equal, Split.TEST, spec, preprocessing=PREPROCESSING, tiles=tiles)
    fitted = PackSource.of(equal, Split.TEST, spec, preprocessing=PREPROCESSING)
    in_windows = list(predict_masks_of(trainable.network, whole))
    (first, *more) = predict_masks(trainable.network, fitted)
    at_once = [first, *more]
    for name in ("said", "wanted"):
        one, other = (
            np.concatenate([getattr(each, name) for each in made]) for made in (in_windows, at_once)
        )
        assert (one == other).mean() > 0.9999, name
    assert sum(each.cost for each in in_windows) == pytest.approx(
        sum(each.cost for each in at_once), rel=1e-4
    )
    assert sum(each.pixels for each in in_windows) == sum(each.pixels for each in at_once)


def test_every_picture_is_judged_at_its_own_size(mixed):
    spec, trainable = resolved_tiles(mixed), TinySegmenter(3)
    tiles = TileFacts(scale=1, side=32, context=8, overlap=8)  # several windows for the larger ones
    source = WholeMasks(mixed, Split.TEST, spec, preprocessing=PREPROCESSING, tiles=tiles)
    answers = list(predict_masks_of(trainable.network, source))
    assert [each.said.shape[1:] for each in answers] == [*SIZES, *SIZES]
    for answered, item in zip(answers, mixed.of(Split.TEST), strict=True):
        np.testing.assert_array_equal(answered.wanted[0], read_mask(mixed.read_mask(item), ImageLimits()))
    with pytest.raises(Stopped):
        list(predict_masks_of(trainable.network, source, should_stop=lambda: True))


def run_tiles(pack, spec, folder, *, resume=None):
    folder.mkdir(exist_ok=True)
    trainable, diary = TinySegmenter(len(pack.labels)), Diary()
    how = {"preprocessing": spec.sized(PREPROCESSING), "tiles": spec.mask_tiles}
    run = TrainRun(
        adapted=trainable,
        spec=spec,
        batches=training_source(pack, spec, **how),
        validation=held_out_source(pack, Split.VALIDATION, spec, **how),
        resume=resume,
        work_dir=folder,
    )
    return trainable, diary, train(run, diary.hooks())


def test_a_run_learns_and_goes_on_to_the_same_bits(mixed, tmp_path):
    spec = resolved_tiles(mixed, n_epochs=24, learning_rate=0.02, checkpoint_every_steps=3)
    whole, diary, trained = run_tiles(mixed, spec, tmp_path / "whole")
    resumed, _, _ = run_tiles(mixed, spec, tmp_path / "resumed", resume=diary.checkpoints[3])
    assert trained.metrics["valid_miou"] > 0.5  # one colour everywhere: below 0.3
    assert all(math.isfinite(value) for told in diary.rows.values() for value in told.values())
    assert bits(resumed.network) == bits(whole.network)


def test_a_step_is_measured(mixed):
    spec, trainable = resolved_tiles(mixed), TinySegmenter(3)
    estimate = measure(trainable, spec, mixed, spec.sized(PREPROCESSING), tiles=spec.mask_tiles)
    assert estimate.steps == spec.total_steps == 2 * 2
    assert estimate.validate_s > 0


def test_windows_are_no_smaller_than_patches_and_go_by_sixteen(mixed):
    for side in (16, 64, 256, 300, 512, 1024):
        spec = resolved_masks(mixed, fit="tiles", image_size=side)
        tiles = spec.mask_tiles
        assert tiles.window % 16 == 0
        assert max(256, side) - 16 < tiles.window <= max(256, side)
        how = spec.sized(PREPROCESSING)
        assert (how.fit, how.height, how.width) == ("tiles", tiles.window, tiles.window)


def test_patches_are_no_larger_than_most_pictures_unless_that_is_asked_for(mixed, equal):
    assert resolved_masks(mixed, fit="tiles", image_size=None).image_size == 24
    assert resolved_masks(equal, fit="tiles", image_size=None).image_size == SIDE
    assert resolved_masks(equal, image_size=None).image_size == 64  # squashed, the network's own


def test_specs_that_do_not_say_it_mean_something_else(mixed):
    spec = resolved_masks(mixed)
    assert spec.fit is None
    assert spec.mask_tiles is None
    assert spec.identity() != resolved_tiles(mixed).identity()


def test_any_network_of_segmentation_takes_any_window():
    rows = CATALOGUE.find(kind=Kind.ARCHITECTURE, task=Task.SEGMENTATION)
    assert len(rows) > 30
    for row in rows:
        assert row.is_size_free, row.id
        assert 16 % row.side_multiple == 0, row.id  # what windows are multiples of
        assert row.smallest_size <= 48, row.id  # the sides that a graph is traced with


def test_only_segmentation_has_it():
    with pytest.raises(SpecError, match="only segmentation") as refused:
        read_spec({"task": "classification", "model": "unet_tiny", "fit": "tiles"})
    assert refused.value.param == "fit"
