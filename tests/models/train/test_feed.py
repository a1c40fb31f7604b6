"""What the trainer is fed: the pixels that serving sees, in an order that depends on seed and epoch alone."""

import io
import threading
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.data.pack import Pack, PackWriter, Split
from models.manifest import Manifest, Preprocessing, Task
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageError, ImageLimits
from models.train.feed import PackSource, Reading, TensorSource, even_sizes
from models.train.spec import Choice
from tests.models.train.tiny_runs import PREPROCESSING, resolved

PHOTO_PREPROCESSING = Preprocessing(height=32, width=32, crop=0.9, mean=(120, 110, 100), std=(60, 58, 57))


def source_of(pack, *, preprocessing=PREPROCESSING, **options):
    options = {"batch_size": 8, "sampler": Choice(method="shuffle"), "seed": 3, **options}
    reading = Reading(**options)
    return PackSource(pack, pack.of(Split.TRAIN), preprocessing=preprocessing, reading=reading)


def epochs(source, number=2):
    return list(source.stream(0, number * len(source.batch_sizes)))


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of several sizes and formats, one on its side."""
    random = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("photos") / "photos.pack"
    with PackWriter(path, ["a", "b"]) as writer:
        for index, (width, height) in enumerate([(100, 60), (64, 64), (40, 90), (33, 32), (200, 210)]):
            small = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
            exif = Image.Exif()
            exif[0x0112] = 6 if index == 2 else 1
            encoded = io.BytesIO()
            kind = "PNG" if index == 1 else "JPEG"
            small.resize((width, height), Image.Resampling.BICUBIC).save(encoded, kind, exif=exif)
            writer.add(
                encoded.getvalue(),
                name=str(index),
                label=index % 2,
                split="train",
                width=width,
                height=height,
            )
        writer.finish()
    pack = Pack(path)
    yield pack
    pack.close()


def test_pictures_are_those_of_the_serving_codec_normalised(photos):
    source = source_of(photos, preprocessing=PHOTO_PREPROCESSING, sampler=None)
    manifest = Manifest(
        task=Task.CLASSIFICATION, inputs=(), outputs=(), preprocessing=PHOTO_PREPROCESSING, labels=("a", "b")
    )
    codec = ClassificationCodec(manifest, ImageLimits())
    ((images, targets),) = source.stream(0, 1)
    assert targets.tolist() == [0, 1, 0, 1, 0]
    for image, item in zip(images, photos.items, strict=True):
        pixels = codec.decode(photos.read(item)).astype(np.float64)
        expected = (pixels - PHOTO_PREPROCESSING.mean) / PHOTO_PREPROCESSING.std
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected, rtol=1e-6, atol=1e-6)


def test_neither_threads_nor_cache_nor_where_it_begins_change_a_batch(pack):
    options = {"augmentation": [Choice(method="rand_augment"), Choice(method="random_erasing")]}
    whole = epochs(source_of(pack, **options), 3)
    picture_bytes = 16 * 16 * 3
    for threads in (1, 3):
        for cache_bytes in (0, 10 * picture_bytes, 10**9):
            other = source_of(pack, threads=threads, cache_bytes=cache_bytes, **options)
            assert same(epochs(other, 3), whole)
            assert same(list(other.stream(7, 11)), whole[7:11])
            assert same([other.load(9)], whole[9:10])
            assert other.is_cached is (cache_bytes == 10**9)
            assert other.cache_bytes <= cache_bytes


def test_every_epoch_has_every_picture_once_in_an_order_of_its_own(pack):
    source = source_of(pack)
    batches = epochs(source, 2)
    assert [len(batch.targets) for batch in batches] == [*source.batch_sizes, *source.batch_sizes]
    count = len(source.batch_sizes)
    pictures = [
        [image.numpy().tobytes() for batch in part for image in batch.images]
        for part in (batches[:count], batches[count:])
    ]
    assert len(set(pictures[0])) == len(pack.of(Split.TRAIN)) == 42
    assert sorted(pictures[0]) == sorted(pictures[1])
    assert pictures[0] != pictures[1]


def test_without_a_sampler_pictures_come_in_the_pack_s_order(pack):
    labels = torch.cat([batch.targets for batch in epochs(source_of(pack, sampler=None), 1)])
    assert labels.tolist() == [item.label for item in pack.of(Split.TRAIN)]


def test_a_picture_that_comes_twice_in_an_epoch_is_changed_twice(pack):
    """The balanced sampler shows the eight pictures of the rare label fourteen times."""
    plain = epochs(source_of(pack, sampler=Choice(method="balanced")), 1)
    changed = epochs(
        source_of(pack, sampler=Choice(method="balanced"), augmentation=[Choice(method="colour_jitter")]), 1
    )
    rare = [
        {image.numpy().tobytes() for batch in batches for image in batch.images[batch.targets == 2]}
        for batches in (plain, changed)
    ]
    assert [len(one) for one in rare] == [8, 14]


def test_augmentations_differ_from_epoch_to_epoch(pack):
    source = source_of(pack, sampler=None, augmentation=[Choice(method="random_crop")])
    batches = epochs(source, 2)
    count = len(source.batch_sizes)
    assert not same(batches[:count], batches[count:])


def test_only_training_is_sampled_and_changed(pack):
    spec = resolved(pack, augmentation=["random_erasing"], sampler="balanced")
    validation = PackSource.of(pack, Split.VALIDATION, spec, preprocessing=PREPROCESSING)
    items, reading = pack.of(Split.VALIDATION), Reading(batch_size=8)
    plain = PackSource(pack, items, preprocessing=PREPROCESSING, reading=reading)
    assert same(epochs(validation, 1), epochs(plain, 1))


def test_a_source_for_another_size_than_the_run_s_is_refused(pack):
    other = PREPROCESSING.model_copy(update={"height": 32, "width": 32})
    with pytest.raises(ValueError, match="32 pixels, run for 16"):
        PackSource.of(pack, Split.TRAIN, resolved(pack), preprocessing=other)


def test_batches_lie_in_memory_as_convolutions_like_them_and_always_alike(pack):
    for batch in epochs(source_of(pack), 3):
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.images.data_ptr() % 64 == 0


def test_a_picture_that_cannot_be_decoded_is_the_taker_s_error(tmp_path):
    with PackWriter(tmp_path / "broken.pack", ["a"]) as writer:
        writer.add(b"\xff\xd8\xff nothing", name="x.jpg", label=0, split="train", width=8, height=8)
        writer.finish()
    with pytest.raises(ImageError):
        epochs(source_of(Pack(tmp_path / "broken.pack")), 1)


def test_a_stream_that_is_left_early_leaves_no_thread(pack):
    before = threading.active_count()
    source = source_of(pack, threads=3)
    with closing(source.stream(0, 1000)) as stream:
        next(stream)
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_it_says_how_long_the_taker_waited(pack, monkeypatch):
    source = source_of(pack)
    load, gate = source.load, threading.Event()
    monkeypatch.setattr(source, "load", lambda number: gate.wait(10) and load(number))
    threading.Timer(0.2, gate.set).start()
    epochs(source, 1)
    assert 0.15 < source.waited_s < 5


def test_an_empty_split_has_no_batches(tmp_path):
    with PackWriter(tmp_path / "empty.pack", ["a"]) as writer:
        writer.finish()
    assert epochs(source_of(Pack(tmp_path / "empty.pack")), 3) == []


def test_tensors_are_given_in_the_same_ways():
    images, targets = torch.arange(10.0).view(10, 1, 1, 1).expand(10, 3, 4, 4), torch.arange(10)
    source = TensorSource(images, targets, batch_size=4, shuffle_seed=1)
    batches = list(source.stream(0, 6))
    assert [len(batch.targets) for batch in batches] == [4, 3, 3, 4, 3, 3]
    assert torch.cat([batch.targets for batch in batches[:3]]).sort().values.tolist() == list(range(10))
    assert same(list(source.stream(4, 6)), batches[4:])
    assert not same(batches[:3], batches[3:])
    assert all(torch.equal(batch.images[:, 0, 0, 0].long(), batch.targets) for batch in batches)


@given(images=st.integers(0, 3000), batch_size=st.integers(1, 300), accumulate=st.sampled_from([1, 2, 4, 8]))
def test_batches_are_even_and_few_and_halving_them_keeps_the_steps(images, batch_size, accumulate):
    sizes = even_sizes(images, batch_size)
    assert sum(sizes) == images
    assert len(sizes) == -(-images // batch_size)
    if sizes:
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
    smaller = even_sizes(images, -(-batch_size // accumulate))
    if batch_size % accumulate == 0:
        assert -(-len(smaller) // accumulate) == len(sizes)
