"""Pictures with masks through feed and loop: what moves a picture moves its mask, and every method trains."""

import math

import numpy as np
import pytest
import torch

from models.catalogue import CATALOGUE, Kind
from models.data.masks import fit_mask
from models.data.pack import PackDamaged, Split
from models.manifest import Preprocessing, Task
from models.train.choosing import Best
from models.train.feed import PackSource, Reading
from models.train.loop import Hooks, TrainRun, train
from models.train.measure import measure
from models.train.spec import CHOICES, Choice, SpecError, read_spec
from tests.models.train.tiny_masks import (
    COLOURS,
    PREPROCESSING,
    SIDE,
    TinySegmenter,
    resolved_masks,
    write_mask_pack,
)
from tests.models.train.tiny_runs import Diary, bits

IGNORED = 255
MOVES = CATALOGUE.find(kind=Kind.AUGMENTATION, task=Task.SEGMENTATION)
FIELDS = {field: kind for field, kind in CHOICES.items() if kind is not Kind.ADAPTER}
METHODS = [
    (field, row)
    for field, kind in FIELDS.items()
    for row in CATALOGUE.find(kind=kind, task=Task.SEGMENTATION)
    if kind in (Kind.LOSS, Kind.SAMPLER, Kind.AUGMENTATION)  # others know nothing of tasks
]


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    pack = write_mask_pack(tmp_path_factory.mktemp("masks") / "discs.pack")
    yield pack
    pack.close()


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    pack = write_mask_pack(tmp_path_factory.mktemp("single") / "disc.pack", labels=("disc",))
    yield pack
    pack.close()


def batch_of(pack, *choices, preprocessing=PREPROCESSING, cache_bytes=None, number=0):
    reading = Reading(
        batch_size=12, seed=5, augmentation=[Choice(**one) for one in choices], cache_bytes=cache_bytes
    )
    source = PackSource(pack, pack.of(Split.TRAIN), preprocessing=preprocessing, reading=reading)
    images, targets = source.load(number)
    pixels = images.permute(0, 2, 3, 1).numpy() * np.array(preprocessing.std) + np.array(preprocessing.mean)
    return pixels, targets.numpy()


def test_a_mask_comes_with_its_picture_in_the_networks_size(masked):
    smaller = PREPROCESSING.model_copy(update={"height": 16, "width": 24})
    for how in (PREPROCESSING, smaller):
        pixels, targets = batch_of(masked, preprocessing=how)
        assert targets.dtype == np.int64
        assert pixels.shape[:3] == targets.shape == (12, how.height, how.width)
        for target, item in zip(targets, masked.of(Split.TRAIN), strict=True):
            np.testing.assert_array_equal(target, fit_mask(masked.read_mask(item), how.height, how.width))


def test_what_does_not_fit_into_the_cache_is_the_same(masked):
    cached, uncached = batch_of(masked), batch_of(masked, cache_bytes=0)
    for one, other in zip(cached, uncached, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("row", MOVES, ids=[row.id for row in MOVES])
def test_what_moves_a_picture_moves_its_mask(masked, row):
    """The colour under each label stays that label's, but at edges, where neighbours are mixed."""
    pixels, targets = batch_of(masked, {"method": row.id})
    plain, untouched = batch_of(masked)
    assert not np.allclose(pixels, plain)
    assert np.array_equal(targets, untouched) is not row.moves
    assert set(np.unique(targets)) <= {0, 1, 2, IGNORED}
    if row.moves:
        nearest = np.abs(pixels[..., None, :] - np.array(COLOURS)).sum(axis=-1).argmin(axis=-1)
        counts = targets != IGNORED
        assert (nearest == targets)[counts].mean() > 0.96
        assert counts.mean() > 0.7


def test_the_picture_is_changed_as_it_would_be_without_a_mask(masked, tmp_path):
    choices = [{"method": "flip"}, {"method": "rotate"}, {"method": "colour_jitter"}]
    bare = [item._replace(mask=None) for item in masked.of(Split.TRAIN)]
    reading = Reading(batch_size=12, seed=5, augmentation=[Choice(**one) for one in choices])
    images, labels = PackSource(masked, bare, preprocessing=PREPROCESSING, reading=reading).load(0)
    pixels, _ = batch_of(masked, *choices)
    own = images.permute(0, 2, 3, 1).numpy() * np.array(PREPROCESSING.std) + np.array(PREPROCESSING.mean)
    np.testing.assert_array_equal(own, pixels)
    assert labels.shape == (12,)
    with pytest.raises(PackDamaged):
        masked.read_mask(bare[0])


def run_masks(pack, spec, folder, *, resume=None):
    folder.mkdir(exist_ok=True)
    trainable, diary = TinySegmenter(len(pack.labels)), Diary()
    sources = [
        PackSource.of(pack, split, spec, preprocessing=PREPROCESSING)
        for split in (Split.TRAIN, Split.VALIDATION)
    ]
    run = TrainRun(
        adapted=trainable,
        spec=spec,
        batches=sources[0],
        validation=sources[1],
        resume=resume,
        work_dir=folder,
    )
    return trainable, diary, train(run, diary.hooks())


def test_the_matrix_has_every_row():
    assert len(MOVES) == 5
    assert len(METHODS) == 13


@pytest.mark.parametrize(("field", "row"), METHODS, ids=[f"{field}-{row.id}" for field, row in METHODS])
def test_a_method_trains_and_goes_on_to_the_same_bits(masked, tmp_path, field, row):
    value = [row.id] if field == "augmentation" else row.id
    spec = resolved_masks(masked, checkpoint_every_steps=3, **{field: value})
    whole, diary, trained = run_masks(masked, spec, tmp_path / "whole")
    resumed, later, _ = run_masks(masked, spec, tmp_path / "resumed", resume=diary.checkpoints[3])
    assert trained.steps == spec.total_steps == 6
    assert all(math.isfinite(value) for told in diary.rows.values() for value in told.values())
    assert {"valid_loss", "valid_accuracy", "valid_miou"} <= trained.metrics.keys()
    assert later.rows == {step: told for step, told in diary.rows.items() if step > 3}
    assert bits(resumed.network) == bits(whole.network) != bits(TinySegmenter(3).network)


@pytest.mark.parametrize(
    ("loss", "weights"), [("cross_entropy", None), ("cross_entropy", "balanced"), ("dice", None)]
)
def test_it_learns_one_label_and_several(masked, single, tmp_path, loss, weights):
    for name, pack in (("several", masked), ("one", single)):
        told = {"loss": loss, "class_weights": weights, "n_epochs": 16, "learning_rate": 0.02}
        spec = resolved_masks(pack, **told, ema_decay=None)
        _, diary, trained = run_masks(pack, spec, tmp_path / name)
        assert trained.metrics["valid_miou"] > 0.6, name  # one colour everywhere: below 0.3
        assert trained.metrics["valid_miou"] == max(row.get("valid_miou", 0) for row in diary.rows.values())


def test_the_best_is_the_one_with_the_highest_mean_iou():
    best = Best()
    best.metrics = {"valid_loss": 0.1, "valid_accuracy": 0.99, "valid_miou": 0.5}
    assert best.is_beaten_by({"valid_loss": 0.4, "valid_accuracy": 0.9, "valid_miou": 0.6})
    assert not best.is_beaten_by({"valid_loss": 0.01, "valid_accuracy": 1.0, "valid_miou": 0.4})


def test_a_step_is_measured_and_everything_is_as_it_was(single):
    spec, trainable = resolved_masks(single, loss="lovasz"), TinySegmenter(1)
    estimate = measure(trainable, spec, single, PREPROCESSING)
    assert estimate.steps == 6
    assert estimate.seconds > 0
    assert bits(trainable.network) == bits(TinySegmenter(1).network)


def test_maps_that_are_not_finite_end_the_run(masked, tmp_path):
    spec = resolved_masks(masked)
    trainable = TinySegmenter(3)
    with torch.no_grad():
        trainable.network.head.bias.fill_(float("nan"))
    source = PackSource.of(masked, Split.TRAIN, spec, preprocessing=PREPROCESSING)
    run = TrainRun(adapted=trainable, spec=spec, batches=source, validation=source, work_dir=tmp_path)
    with pytest.raises(ArithmeticError):
        train(run, Hooks())


def test_masks_are_of_the_whole_picture_whatever_the_base_does(masked):
    spec = resolved_masks(masked)
    assert spec.sized(Preprocessing(height=8, width=8)).fit == "squash"
    assert (spec.image_size, spec.labels) == (SIDE, masked.labels)


def test_balanced_weights_make_labels_weigh_the_same_by_their_pixels(masked, single):
    for pack in (masked, single):
        masks = np.stack([fit_mask(pack.read_mask(item), SIDE, SIDE) for item in pack.of(Split.TRAIN)])
        shares = np.bincount(masks.ravel()) / masks.size
        weights = resolved_masks(pack, class_weights="balanced").weights_by_label()
        assert len(weights) == len(shares) == max(2, len(pack.labels))
        np.testing.assert_allclose(np.multiply(weights, shares), weights[0] * shares[0], rtol=1e-6)
        assert weights[0] == (1.0 if len(pack.labels) == 1 else pytest.approx(1 / (3 * shares[0])))


def test_a_label_that_hardly_is_there_does_not_weigh_without_end(tmp_path):
    pack = write_mask_pack(tmp_path / "more.pack", training=1)
    weights = resolved_masks(pack, class_weights="balanced").weights_by_label()
    pack.close()
    assert weights[2] == pytest.approx(1 / (3 * 1e-4))


def test_weights_are_refused_where_they_would_weigh_nothing():
    raw = {"task": "segmentation", "model": "unet_tiny", "class_weights": {"a": 2}}
    with pytest.raises(SpecError, match="to dice labels count alike; cross_entropy_weight") as refused:
        read_spec({**raw, "loss": "dice"})
    assert refused.value.param == "class_weights"
    assert read_spec({**raw, "loss": {"method": "dice", "cross_entropy_weight": 1}}).class_weights == {"a": 2}
