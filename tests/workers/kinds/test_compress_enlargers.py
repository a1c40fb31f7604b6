"""Enlargers in fewer bits: what counts is how near the pictures are that they make, window by window."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from app.access.principal import SYSTEM
from app.errors import ImageTooLarge, InvalidSpec, ParityFailed
from app.registry.verification import verify
from models.data.pack import PackWriter, Split
from models.export.decisions import psnr_db, squared_error
from models.export.reference import read_reference
from models.manifest import REFERENCE_FILE
from models.tasks.images import ImageLimits, decode_image
from models.tasks.restoration import smaller
from tests.colour_models import publish_enlarger
from tests.compress_world import CompressPlace
from tests.importing import PHOTOS
from tests.models.train.tiny_pictures import SIDE, encoded, stripes, write_picture_pack
from tests.packs import publish_pack
from tests.registry_world import publish_parcel
from workers.kinds.compress import run

ASKED = {"model": "doubler", "dataset": "stripes"}


@pytest.fixture
def place(tmp_path, sqlite_url):
    place = CompressPlace(tmp_path, sqlite_url)
    publish_enlarger(place.registry, place.folder / "doubler", name="doubler")
    give(place, "stripes")
    give(place, "pairs", ratio=2)
    yield place
    place.database.close()


def give(place, name, **options):
    path = place.folder / f"{name}.pack"
    write_picture_pack(path, **options).close()
    publish_pack(place.datasets, SYSTEM, place.folder, name=name, pack=path, task="super-resolution")


def samples_of(publication):
    reference = read_reference(publication.artifacts[REFERENCE_FILE])
    return [decode_image(sample, limits=ImageLimits()) for sample in reference.samples]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_its_certificate_says_how_near_its_pictures_are(place, precision):
    assert str(place.publish(**ASKED, precision=precision)) == "doubler:2"
    certificate = place.registry.get_version(SYSTEM, "doubler", 2).certificate
    agreement, compared = certificate.agreement, certificate.compared_with
    assert agreement.psnr_db > 40 == agreement.least_psnr_db
    assert agreement.same_label is agreement.mean_iou is None
    assert 5 < compared.psnr_before_db < 30  # it only blurs
    assert compared.psnr_after_db == pytest.approx(compared.psnr_before_db, abs=0.1)
    said = f"a PSNR of {agreement.psnr_db:.2f} dB of both over {agreement.samples} held-out windows of"
    assert said in place.messages[-1]
    again = verify(place.settings, "doubler:2")
    assert again.computed.agreement == agreement


def test_one_whose_pictures_are_too_unlike_is_refused_with_what_they_are(place):
    with pytest.raises(
        ParityFailed, match=r"a PSNR of \d\d\.\d\d dB .*; a least_psnr_db of 100 is asked"
    ) as refused:
        place.run(**ASKED, keep="always", least_psnr_db=100)
    assert "least_psnr_db" in refused.value.hint


def test_its_result_and_certificate_say_nothing_of_labels(place):
    outcome = place.run(**ASKED, precision="fp16", keep="always")
    assert outcome.result["same_label"] is outcome.result["mean_iou"] is None
    assert outcome.result["psnr_db"] == outcome.publish.certificate.agreement.psnr_db
    stored = json.loads(outcome.publish.certificate.to_json())
    assert not {"same_label", "least_same_label", "mean_iou", "least_iou"} & set(stored["agreement"])
    assert "mean_iou_before" not in stored["compared_with"]


def test_large_pictures_alone_are_made_smaller_and_of_pairs_the_small_ones_are_shown(place):
    first, again, paired = (
        samples_of(place.run(model="doubler", dataset=dataset, precision="fp16", keep="always").publish)
        for dataset in ("stripes", "stripes", "pairs")
    )
    assert len(first) == len(paired) == 3  # none is larger than a window
    assert {window.shape for window in first + paired} == {(SIDE // 12 * 6, SIDE // 12 * 6, 3)}
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    chance = np.random.default_rng(3)
    larges = [stripes(chance, side=SIDE // 12 * 12) for _ in range(8 + 3 + 3)]
    wholes = [smaller(large, 2) for large in larges]
    assert all(any(np.array_equal(window, whole) for whole in wholes[-3:]) for window in paired)


def test_windows_lie_all_over_large_pictures_and_a_few_small_ones_are_left_out(place):
    chance, sides = np.random.default_rng(5), [300] * 6 + [400] * 5 + [60]
    path = place.folder / "mixed.pack"
    with PackWriter(path, ["picture"]) as writer:
        for split in Split:
            for at, side in enumerate(sides):
                data = encoded(chance.integers(0, 256, (side, side, 3), dtype=np.uint8))
                writer.add(data, name=f"{split}/{at}.png", label=0, split=split, width=side, height=side)
        writer.finish()
    publish_pack(place.datasets, SYSTEM, place.folder, name="mixed", pack=path, task="super-resolution")
    windows = samples_of(place.run(model="doubler", dataset="mixed", precision="fp16", keep="always").publish)
    assert {window.shape for window in windows} == {(32, 32, 3)}  # the model's own windows have no more
    assert len({window.tobytes() for window in windows}) == len(windows) == 11 * 16
    assert (
        "Windows have 32 pixels a side; 3 of 36 pictures are left out, which are smaller." in place.messages
    )


def test_a_picture_that_is_larger_than_may_be_is_refused_as_such(place):
    settings = place.settings.model_copy(update={"max_image_pixels": 100})
    with pytest.raises(ImageTooLarge):
        run(place.context(place.spec(**ASKED), settings=settings))


def test_a_set_of_another_task_is_refused_at_the_door(place):
    with pytest.raises(InvalidSpec, match="flags:1 is for classification, doubler for super-resolution"):
        place.run(model="doubler", dataset="flags")


def test_psnr_is_of_all_pictures_together_as_they_are_served():
    dark, bright = np.zeros((3, 2, 2), np.float32), np.full((3, 2, 2), 1.5, np.float32)
    assert squared_error(dark - 1, dark) == 0  # below black is black
    assert squared_error(bright, np.ones_like(bright)) == 0
    assert squared_error(dark, dark + np.float32(0.1)) == pytest.approx(0.01)
    assert psnr_db([0.01, 0.03]) == pytest.approx(10 * np.log10(1 / 0.02))
    assert psnr_db([0.0]) == 120
    assert psnr_db([]) is None
    assert np.isnan(psnr_db([0.01, float("nan")]))


@pytest.mark.slow
def test_waifu2x_in_int8_makes_pictures_as_near_as_was_asked(place, first_start):
    publish_parcel(place.registry, first_start.starter("waifu2x-photo"), name="waifu2x")
    path = place.folder / "photos.pack"
    photos = [path for path in sorted(PHOTOS.iterdir()) if path.suffix in {".jpg", ".png"}]
    with PackWriter(path, ["picture"]) as writer:
        for at, photo in enumerate(photos):
            image, data = Image.open(photo).convert("RGB"), io.BytesIO()
            image.save(data, "PNG")
            split = Split.TEST if at % 2 else Split.TRAIN
            width, height = image.size
            writer.add(data.getvalue(), name=photo.name, label=0, split=split, width=width, height=height)
        writer.finish()
    publish_pack(place.datasets, SYSTEM, place.folder, name="photos", pack=path, task="super-resolution")
    version = place.publish(model="waifu2x", dataset="photos")
    certificate = place.registry.get_version(SYSTEM, "waifu2x", version.number).certificate
    compared = certificate.compared_with
    assert certificate.agreement.psnr_db >= 40
    assert compared.psnr_after_db > compared.psnr_before_db - 1.5
    assert certificate.size_bytes < 0.6 * compared.size_bytes
    assert verify(place.settings, str(version)).computed.agreement == certificate.agreement
