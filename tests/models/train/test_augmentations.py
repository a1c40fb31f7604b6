"""What augmentations and mixings do to pictures and targets."""

import numpy as np
import pytest
import torch
from PIL import Image

from models.catalogue import CATALOGUE, Kind
from models.train.augment import border_colour
from models.train.rand_augment import CHANGES

AUGMENTATIONS = CATALOGUE.find(kind=Kind.AUGMENTATION)
MIXINGS = CATALOGUE.find(kind=Kind.MIXING)


def picture(height=24, width=32):
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 255 / height, columns * 255 / width, (rows * columns) % 256], axis=2)
    return pixels.astype(np.uint8)


def augment(method, pixels, seed=0, **parameters):
    row = CATALOGUE.get(Kind.AUGMENTATION, method)
    return row.build()(row.parameters.model_validate(parameters))(pixels, np.random.default_rng(seed))


def test_the_catalogue_has_nine_augmentations_and_three_mixings():
    assert [row.id for row in AUGMENTATIONS] == [
        "flip",
        "quarter_turns",
        "random_crop",
        "random_resized_crop",
        "rotate",
        "colour_jitter",
        "rand_augment",
        "trivial_augment",
        "random_erasing",
    ]
    assert [row.id for row in MIXINGS] == ["mixup", "cutmix", "fmix"]


@pytest.mark.parametrize("row", AUGMENTATIONS, ids=lambda row: row.id)
@pytest.mark.parametrize("shape", [(24, 32), (17, 17), (1, 5)])
def test_keeps_shape_and_original_and_depends_on_the_generator_alone(row, shape):
    pixels = picture(*shape)
    kept = pixels.copy()
    pixels.setflags(write=False)
    many = [augment(row.id, pixels, seed) for seed in range(40)]
    for seed, one in enumerate(many):
        assert one.shape == pixels.shape
        assert one.dtype == np.uint8
        assert np.array_equal(one, augment(row.id, pixels, seed))
    assert np.array_equal(pixels, kept)
    if min(shape) > 1:
        assert len({one.tobytes() for one in many}) > 1


def test_quarter_turns_are_all_as_likely():
    pixels = picture(24, 24)
    turns = [augment("quarter_turns", pixels, seed) for seed in range(200)]
    counts = [sum(np.array_equal(one, np.rot90(pixels, turn)) for one in turns) for turn in range(4)]
    assert sum(counts) == 200
    assert min(counts) > 30


def test_flip_mirrors():
    pixels = picture()
    assert np.array_equal(augment("flip", pixels, share=1.0), pixels[:, ::-1])
    assert np.array_equal(augment("flip", pixels, share=0.0, vertical_share=1.0), pixels[::-1])
    assert np.array_equal(augment("flip", pixels, share=0.0), pixels)
    mirrored = sum(not np.array_equal(augment("flip", pixels, seed), pixels) for seed in range(400))
    assert 150 < mirrored < 250


def test_random_crop_shifts_by_whole_pixels_and_draws_the_edges_out():
    pixels = picture(20, 20)
    seen = set()
    for seed in range(100):
        shifted = augment("random_crop", pixels, seed, shift_share=0.1)
        down, right = next(
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(
                shifted, np.pad(pixels, ((2, 2), (2, 2), (0, 0)), "edge")[2 + down :, 2 + right :][:20, :20]
            )
        )
        seen.add((down, right))
    assert len(seen) == 25


def test_random_resized_crop_of_the_whole_is_the_picture_itself():
    pixels = picture()
    whole = augment("random_resized_crop", pixels, smallest_area=1.0, largest_aspect=1.0)
    assert np.array_equal(whole, pixels)


def test_random_resized_crop_enlarges_a_part():
    columns = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (100, 1, 3))
    for seed in range(20):
        part = augment("random_resized_crop", columns, seed, smallest_area=0.25, largest_aspect=1.0)
        spread = int(part[50, :, 0].max()) - int(part[50, :, 0].min())
        assert 47 <= spread <= 99


def test_rotate_turns_and_fills_with_the_colour_of_the_border():
    pixels = np.full((21, 21, 3), (10, 20, 30), np.uint8)
    pixels[8:13, 8:13] = 200
    for seed in range(5):
        turned = augment("rotate", pixels, seed, largest_degrees=180)
        assert tuple(turned[0, 0]) == (10, 20, 30)
        assert tuple(turned[10, 10]) == (200, 200, 200)


def test_colour_jitter_of_no_strength_changes_nothing():
    pixels = picture()
    still = augment("colour_jitter", pixels, brightness=0, contrast=0, saturation=0)
    assert np.array_equal(still, pixels)


def test_brightness_multiplies():
    pixels = picture() // 2
    brighter = augment("colour_jitter", pixels, brightness=1.0, contrast=0, saturation=0)
    factor = 1 + np.random.default_rng(0).uniform(-1.0, 1.0)
    np.testing.assert_allclose(brighter, np.minimum(255, pixels * factor), atol=1)


def test_a_turn_of_hue_turns_red_to_another_full_colour():
    red = np.zeros((4, 4, 3), np.uint8)
    red[:, :, 0] = 255
    turned = augment("colour_jitter", red, 1, brightness=0, contrast=0, saturation=0, hue_share=0.5)
    assert not np.array_equal(turned, red)
    assert turned.max() == 255
    assert turned.min() == 0


def test_random_erasing_overwrites_one_rectangle_of_the_asked_area():
    pixels = np.zeros((50, 50, 3), np.uint8)
    for seed in range(20):
        erased = augment("random_erasing", pixels, seed, share=1.0, smallest_area=0.1, largest_area=0.2)
        rows, columns = np.nonzero(erased.any(axis=2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 0.08 <= height * width / 2500 <= 0.22
        assert (erased.any(axis=2)).sum() > 0.98 * height * width


def test_rand_augment_has_the_paper_s_fourteen_changes():
    assert len(CHANGES) == 14
    pixels = picture()
    assert np.array_equal(augment("rand_augment", pixels, operations=14, magnitude=0).shape, pixels.shape)


def test_trivial_augment_makes_one_change_of_one_of_31_strengths():
    pixels, seen = picture(), set()
    fill = border_colour(pixels)
    strengths = [sign * step / 30 for step in range(31) for sign in (1, -1)]
    made = {
        np.asarray(change(Image.fromarray(pixels), strength, fill)).tobytes(): at
        for at, change in enumerate(CHANGES)
        for strength in strengths
    }
    for seed in range(150):
        changed = augment("trivial_augment", pixels, seed).tobytes()
        assert changed in made
        seen.add(made[changed])
    assert len(seen) >= 12  # several of strength 0 make the same picture


def mixed(method, images, targets, seed=0, **parameters):
    row = CATALOGUE.get(Kind.MIXING, method)
    return row.build()(row.parameters.model_validate(parameters))(
        images, targets, np.random.default_rng(seed)
    )


def batch(pictures=6, side=16):
    """Picture i is all i, and of label i."""
    images = torch.arange(float(pictures)).view(-1, 1, 1, 1).expand(-1, 3, side, side).contiguous()
    return images.contiguous(memory_format=torch.channels_last), torch.eye(pictures)


@pytest.mark.parametrize("row", MIXINGS, ids=lambda row: row.id)
def test_targets_are_the_shares_of_the_pixels(row):
    images, targets = batch()
    original = images.clone()
    for seed in range(30):
        new_images, new_targets = mixed(row.id, images, targets, seed, share=1.0)
        assert new_images.shape == images.shape
        assert new_images.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(new_targets.sum(dim=1), torch.ones(6))
        # The mean pixel is the mean of the labels that are in it.
        torch.testing.assert_close(
            new_images.mean(dim=(1, 2, 3)), new_targets @ torch.arange(6.0), rtol=1e-4, atol=1e-4
        )
    assert torch.equal(images, original)


def test_mixup_lays_pictures_over_each_other_by_one_share():
    images, targets = batch()
    _, shares = mixed("mixup", images, targets, 1, alpha=1.0)
    largest = shares.max(dim=1).values
    assert all(value in (1.0, pytest.approx(float(largest.min()))) for value in largest.tolist())


def test_cutmix_sets_one_rectangle():
    images, targets = batch(side=32)
    for seed in range(20):
        new_images, _ = mixed("cutmix", images, targets, seed, share=1.0)
        changed = (new_images != images).any(dim=1).any(dim=0)
        rows, columns = changed.any(dim=1), changed.any(dim=0)
        assert torch.equal(changed, rows[:, None] & columns[None, :])
        assert {len(one.unique()) for one in new_images[:, 0]} <= {1, 2}


def test_fmix_sets_blots_that_are_the_smoother_the_greater_the_decay():
    images, targets = batch(side=32)

    def borders(decay):
        found = []
        for seed in range(20):
            new_images, shares = mixed("fmix", images, targets, seed, decay=decay)
            blot = (new_images != images).any(dim=1)
            changed = blot.any(dim=0)
            assert {tuple(one.flatten().tolist()) for one in blot if one.any()} <= {
                tuple(changed.flatten().tolist())
            }
            if changed.any():
                torch.testing.assert_close(shares.min(dim=1).values, torch.zeros(6))
                own = shares.diagonal()
                torch.testing.assert_close(float(own.min()), 1 - float(changed.float().mean()))
            found.append((changed[1:] != changed[:-1]).sum() + (changed[:, 1:] != changed[:, :-1]).sum())
        return float(sum(found))

    assert borders(4.0) < borders(3.0) < 0.5 * borders(1.0) < 0.5 * borders(0.0)


@pytest.mark.parametrize("row", MIXINGS, ids=lambda row: row.id)
def test_a_mixing_depends_on_the_generator_alone(row):
    images, targets = batch()
    mix = row.build()(row.parameters())
    for seed in range(10):
        one, other = (mix(images, targets, np.random.default_rng(seed)) for _ in range(2))
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("row", MIXINGS, ids=lambda row: row.id)
def test_a_share_of_the_batches_is_mixed(row):
    images, targets = batch()
    still = sum(
        torch.equal(mixed(row.id, images, targets, seed, share=0.5)[1], targets) for seed in range(200)
    )
    assert 60 < still < 140
