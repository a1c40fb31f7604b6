"""Each starter is pinned, labelled, and has a reference that the source's own code made."""

import re

import numpy as np
import pytest
import torch

from models.export.reference import labels_sha256, read_reference
from models.manifest import Task
from models.starters import STARTERS, get_starter
from models.starters.rows import UnknownStarter
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits
from tests.importing import PHOTOS

# The order is what gives the outputs their meaning: a few classes whose index is widely known.
KNOWN = {0: "tench", 281: "tabby", 282: "tiger cat", 967: "espresso", 999: "toilet tissue"}


def test_the_default_classifier_is_among_them():
    assert "efficientnet-lite0" in STARTERS


@pytest.mark.parametrize("starter", STARTERS.values(), ids=STARTERS)
def test_weights_and_archive_are_pinned(starter):
    for pin in (starter.sha256, starter.archive_sha256):
        assert re.fullmatch(r"[0-9a-f]{64}", pin)
    assert starter.licence


def test_labels_are_imagenets_thousand_in_their_order():
    labels = get_starter("efficientnet-lite0").labels

    assert len(labels) == 1000
    assert {index: labels[index] for index in KNOWN} == KNOWN


@pytest.mark.parametrize("starter", STARTERS.values(), ids=STARTERS)
def test_the_reference_agrees_with_itself_and_the_labels(starter):
    reference = read_reference(starter.reference_path)

    assert reference.all_labels_sha256 == labels_sha256(starter.labels)
    planes = 3 if starter.task is Task.SUPER_RESOLUTION else len(starter.labels)
    assert reference.logits.shape[:2] == (len(reference.samples), planes)
    assert starter.reference_path.stat().st_size < 1_000_000
    if starter.task is Task.CLASSIFICATION:
        assert len(reference.samples) >= 6
        assert list(reference.labels) == [starter.labels[i] for i in reference.logits.argmax(axis=1)]
    elif starter.task is Task.SEGMENTATION:
        assert reference.logits.shape[2:] == (starter.preprocessing.height, starter.preprocessing.width)


def test_the_reference_holds_what_the_source_packages_own_network_gives(lite0):
    from efficientnet_lite_pytorch import EfficientNet

    reference = read_reference(get_starter("efficientnet-lite0").reference_path)
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(lite0.source, weights_only=True))
    network.eval()
    codec = ClassificationCodec(lite0.manifest, ImageLimits())
    images = np.stack([codec.decode(sample) for sample in reference.samples])

    with torch.inference_mode():
        logits = network((torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128).numpy()

    assert np.abs(logits - reference.logits).max() < 1e-4, (
        "The codec's pixels have changed. If that is meant: python examples/make_starter_reference.py"
    )


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownStarter, match="there is efficientnet-lite0"):
        get_starter("efficientnet-lite-0")


def test_every_photo_has_its_licence_written_down():
    licences = (PHOTOS / "LICENSES.md").read_text()
    photos = [path for path in PHOTOS.iterdir() if path.suffix in {".png", ".jpg"}]

    assert len(photos) == 6
    for photo in photos:
        assert f"`{photo.name}`" in licences
    assert sum(photo.stat().st_size for photo in photos) < 1_600_000
