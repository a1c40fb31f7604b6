"""Pictures and their small ones through feed and loop: patches belong together, and every method trains."""

import math

import numpy as np
import pytest
import torch

from models.catalogue import CATALOGUE, Kind
from models.data.pack import Split
from models.manifest import Task
from models.tasks.images import ImageLimits, decode_image
from models.tasks.restoration import smaller
from models.train.choosing import Best
from models.train.feed import Reading
from models.train.loop import Hooks, TrainRun, train
from models.train.measure import measure
from models.train.patches import PatchSource, WholePictures, degraded, patch_source
from models.train.spec import CHOICES, Choice, Degradation, SpecError, read_spec
from tests.models.train.tiny_pictures import (
    TinyRestorer,
    resolved_pictures,
    stripes,
    write_picture_pack,
)
from tests.models.train.tiny_runs import Diary, bits

METHODS = [
    (field, row)
    for field, kind in CHOICES.items()
    for row in CATALOGUE.find(kind=kind, task=Task.SUPER_RESOLUTION)
    if kind in (Kind.LOSS, Kind.SAMPLER, Kind.AUGMENTATION)  # others know nothing of tasks
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    pack = write_picture_pack(tmp_path_factory.mktemp("alone") / "stripes.pack")
    yield pack
    pack.close()


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    pack = write_picture_pack(tmp_path_factory.mktemp("paired") / "stripes.pack", ratio=3)
    yield pack
    pack.close()


def source_of(pack, *, scale=2, side=24, augmentation=(), degradation=None, **reading):
    told = Reading(batch_size=8, seed=5, augmentation=[Choice(method=one) for one in augmentation], **reading)
    items = pack.of(Split.TRAIN)
    return PatchSource(pack, items, scale=scale, side=side, reading=told, degradation=degradation)


def levels(batch):
    """Small and large patches in 0..255."""
    return [
        np.rint(255 * one.permute(0, 2, 3, 1).numpy()).astype(np.uint8)
        for one in (batch.images, batch.targets)
    ]


def is_of_one_place(small, patch, picture, scale):
    """Is there a place of the picture that both are of?"""
    side, few = len(patch), smaller(picture, scale)
    for top, left in np.ndindex(few.shape[0] - len(small) + 1, few.shape[1] - len(small) + 1):
        row, column = top * scale, left * scale
        if np.array_equal(picture[row : row + side, column : column + side], patch) and np.array_equal(
            few[top : top + len(small), left : left + len(small)], small
        ):
            return True
    return False


@pytest.mark.parametrize(("ratio", "scale"), [(None, 2), (None, 4), (3, 3)])
def test_a_small_patch_is_of_the_same_place_as_its_large_one(alone, paired, ratio, scale):
    pack = paired if ratio else alone
    source = source_of(pack, scale=scale)
    larges = [decode_image(pack.read(item), limits=ImageLimits()) for item in pack.of(Split.TRAIN)]
    smalls, patches = levels(source.load(0))
    assert (smalls.shape, patches.shape) == ((8, 24 // scale, 24 // scale, 3), (8, 24, 24, 3))
    for at, (small, patch) in enumerate(zip(smalls, patches, strict=True)):
        assert is_of_one_place(small, patch, larges[at // 4], scale)  # four patches of each


def test_an_epoch_has_as_many_patches_of_each_picture_as_would_cover_it(alone):
    source = source_of(alone)  # 60 x 60 pixels hold 2 x 2 patches of 24
    assert sum(source.batch_sizes) == 8 * 4
    assert (source.pictures, source.is_cached) == (8, True)
    assert source.pictures_in(0) == 2
    shuffled = source_of(alone, sampler=Choice(method="shuffle"))
    first, again, later = (shuffled.load(number) for number in (0, 0, 4))
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.targets, later.targets)


def test_what_does_not_fit_into_the_cache_is_the_same(alone):
    kept, not_kept = source_of(alone), source_of(alone, cache_bytes=0)
    assert not not_kept.is_cached
    for number in (0, 3):
        for one, other in zip(kept.load(number), not_kept.load(number), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("method", ["flip", "quarter_turns"])
def test_both_patches_are_changed_alike(alone, method):
    changed, plain = levels(source_of(alone, augmentation=[method]).load(0)), levels(source_of(alone).load(0))
    seen = set()
    for small, large, small_was, large_was in zip(*changed, *plain, strict=True):
        ways = {
            (turns, mirrored): np.rot90(large_was[:, ::-1] if mirrored else large_was, turns)
            for turns in range(4)
            for mirrored in (False, True)
        }
        turns, mirrored = next(way for way, one in ways.items() if np.array_equal(one, large))
        np.testing.assert_array_equal(small, np.rot90(small_was[:, ::-1] if mirrored else small_was, turns))
        seen.add((turns, mirrored))
    assert len(seen) > 1


def test_noise_and_jpeg_change_small_patches_alone_and_are_drawn_by_seed(alone):
    told = Degradation(noise=20, jpeg_quality=30)
    changed = source_of(alone, degradation=told)
    smalls, larges = levels(changed.load(0))
    plain, wanted = levels(source_of(alone).load(0))
    np.testing.assert_array_equal(larges, wanted)
    far = np.abs(smalls.astype(int) - plain).mean(axis=(1, 2, 3))
    assert (far > 0.5).all()
    assert far.max() < 40
    assert torch.equal(changed.load(0).images, source_of(alone, degradation=told).load(0).images)
    pixels = stripes(np.random.default_rng(0), side=24)
    quiet = degraded(pixels, Degradation(), np.random.default_rng(1))
    np.testing.assert_array_equal(quiet, pixels)


def test_whole_pictures_are_degraded_the_same_way_each_time(alone):
    spec = resolved_pictures(alone, degradation={"noise": 10})
    source = WholePictures(alone, Split.TEST, spec, TinyRestorer().tiles)
    assert [name for name, _ in source] == [item.name for item in alone.of(Split.TEST)]
    for index in range(3):
        one, again = source.pair(index), source.pair(index)
        np.testing.assert_array_equal(one.small, again.small)
        assert not np.array_equal(one.small, smaller(one.large, 2))


def run_pictures(pack, spec, folder, *, resume=None, scale=2):
    folder.mkdir(exist_ok=True)
    trainable, diary = TinyRestorer(scale), Diary()
    run = TrainRun(
        adapted=trainable,
        spec=spec,
        batches=patch_source(pack, spec, trainable.tiles),
        validation=WholePictures(pack, Split.VALIDATION, spec, trainable.tiles),
        resume=resume,
        work_dir=folder,
    )
    return trainable, diary, train(run, diary.hooks())


def test_the_matrix_has_every_row():
    assert len(METHODS) == 8


@pytest.mark.parametrize(("field", "row"), METHODS, ids=[f"{field}-{row.id}" for field, row in METHODS])
def test_a_method_trains_and_goes_on_to_the_same_bits(alone, tmp_path, field, row):
    value = [row.id] if field == "augmentation" else row.id
    spec = resolved_pictures(
        alone, checkpoint_every_steps=3, batch_size=12, degradation={"noise": 2}, **{field: value}
    )
    whole, diary, trained = run_pictures(alone, spec, tmp_path / "whole")
    resumed, later, _ = run_pictures(alone, spec, tmp_path / "resumed", resume=diary.checkpoints[3])
    assert trained.steps == spec.total_steps == 6
    assert all(math.isfinite(value) for told in diary.rows.values() for value in told.values())
    assert {"valid_loss", "valid_psnr", "valid_psnr_gain"} <= trained.metrics.keys()
    assert later.rows == {step: told for step, told in diary.rows.items() if step > 3}
    assert bits(resumed.network) == bits(whole.network) != bits(TinyRestorer().network)


def test_it_learns_from_pairs_as_well_and_keeps_the_best_by_psnr(paired, tmp_path):
    spec = resolved_pictures(paired, n_epochs=16, learning_rate=0.003, ema_decay=None)
    assert spec.scale == 3
    _, diary, trained = run_pictures(paired, spec, tmp_path, scale=3)
    decibels = [row["valid_psnr"] for row in diary.rows.values() if "valid_psnr" in row]
    assert len(decibels) == 16
    assert trained.metrics["valid_psnr"] == max(decibels)
    assert trained.metrics["valid_psnr_gain"] > 0.1
    best = Best()
    best.metrics = {"valid_loss": 0.1, "valid_psnr": 30.0}
    assert best.is_beaten_by({"valid_loss": 0.2, "valid_psnr": 30.5})
    assert not best.is_beaten_by({"valid_loss": 0.01, "valid_psnr": 29.0})


def test_a_step_is_measured_and_everything_is_as_it_was(alone):
    spec, trainable = resolved_pictures(alone), TinyRestorer()
    preprocessing = trainable.tiles.preprocessing
    estimate = measure(trainable, spec, alone, preprocessing, tiles=trainable.tiles)
    assert estimate.steps == 16
    assert estimate.seconds > 0
    assert estimate.decode_s * 8 < estimate.seconds
    assert bits(trainable.network) == bits(TinyRestorer().network)


def test_pixels_that_are_not_finite_end_the_run(alone, tmp_path):
    spec, trainable = resolved_pictures(alone), TinyRestorer()
    with torch.no_grad():
        trainable.network.phases.bias.fill_(float("nan"))
    run = TrainRun(
        adapted=trainable,
        spec=spec,
        batches=patch_source(alone, spec, trainable.tiles),
        validation=WholePictures(alone, Split.VALIDATION, spec, trainable.tiles),
        work_dir=tmp_path,
    )
    with pytest.raises(ArithmeticError):
        train(run, Hooks())


def test_what_is_left_out_is_filled_in_for_pictures(alone, paired):
    spec = resolved_pictures(alone, image_size=None, batch_size=None, augmentation=None)
    assert (spec.image_size, spec.batch_size, spec.scale, spec.loss.method) == (60, 8, 2, "l1")
    assert [choice.method for choice in spec.augmentation] == ["flip", "quarter_turns"]
    assert resolved_pictures(paired).scale == 3
    assert spec.training_images == 8
    patches = [resolved_pictures(alone, image_size=side).training_images for side in (24, 36, 60)]
    assert patches == [8 * 4, 8, 8]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"class_weights": "balanced"}, "class_weights"),
        ({"scale": 5}, "scale"),
        ({"degradation": {"noise": -1}}, "degradation.noise"),
        ({"degradation": {"jpeg_quality": 5}}, "degradation.jpeg_quality"),
        ({"degradation": {"blur": 1}}, "degradation.blur"),
    ],
)
def test_what_makes_no_sense_for_pictures_is_refused(changes, param):
    with pytest.raises(SpecError) as refused:
        read_spec({"task": "super-resolution", "model": "srcnn", **changes})
    assert refused.value.param == param


@pytest.mark.parametrize("field", ["scale", "degradation"])
def test_what_only_pictures_have_is_refused_for_others(field):
    value = 2 if field == "scale" else {"noise": 1}
    with pytest.raises(SpecError, match="only super-resolution") as refused:
        read_spec({"model": "resnet18", field: value})
    assert refused.value.param == field
