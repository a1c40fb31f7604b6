"""The starter comes in by an ordinary import and answers as the source package's own code does."""

import numpy as np
import pytest
import torch

from app.errors import ImportRefused
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, REFERENCE_FILE, Level, sha256_hex
from models.starters import get_starter
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits
from tests.importing import PHOTOS
from workers.kinds.import_sources import bring_source

ANSWERS = [
    ("chelsea.png", "tiger cat", 0.39, 0.03),
    ("coffee.png", "espresso", 0.95, 0.02),
    ("china.jpg", "palace", 0.33, 0.1),
    ("flower.jpg", "daisy", 0.34, 0.1),
]


@pytest.fixture(scope="module")
def codec(lite0):
    return ClassificationCodec(lite0.manifest, ImageLimits())


@pytest.fixture(scope="module")
def session(lite0):
    return ServedSession(lite0.artifacts[MODEL_FILE])


def test_the_starter_is_certified_against_the_source_packages_own_code(lite0):
    certificate = lite0.certificate

    assert certificate.level is Level.CERTIFIED
    assert certificate.reference_by.startswith("efficientnet-lite-pytorch 0.1.0")
    assert certificate.agreement.samples == 8
    assert certificate.agreement.decided >= 6
    assert certificate.agreement.top1 == 1.0
    assert certificate.agreement.max_abs <= 1e-4
    assert certificate.latency_ms > 0


def test_the_certificate_is_about_the_files_that_are_handed_over(lite0):
    certificate, artifacts = lite0.certificate, lite0.artifacts

    assert certificate.model_sha256 == sha256_hex(artifacts[MODEL_FILE].read_bytes())
    assert certificate.manifest_sha256 == sha256_hex(lite0.manifest.to_json())
    assert certificate.reference_sha256 == sha256_hex(artifacts[REFERENCE_FILE].read_bytes())


def test_the_manifest_says_where_the_weights_came_from(lite0):
    manifest, starter = lite0.manifest, get_starter("efficientnet-lite0")

    assert manifest.source == starter.source
    assert manifest.source_sha256 == starter.sha256
    assert manifest.licence == "Apache-2.0"
    assert manifest.architecture == "tf_efficientnet_lite0"
    assert manifest.parameters == 4_652_008
    assert len(manifest.labels) == 1000
    assert manifest.inputs[0].shape == (-1, 224, 224, 3)
    assert manifest.max_batch is None


def test_progress_goes_through_the_phases_and_never_back(lite0):
    phases, fractions = zip(*lite0.phases, strict=True)

    assert phases == ("downloading", "building", "exporting", "certifying")
    assert list(fractions) == sorted(fractions)
    assert any("equals the PyTorch network" in message for message in lite0.messages)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer[0])
def test_photos_get_the_answers_they_are_known_for(answer, codec, session):
    photo, label, score, within = answer
    image = codec.decode((PHOTOS / photo).read_bytes())

    best = codec.encode(session.run(image[np.newaxis])[0], 5)[0]

    assert best["label"] == label
    assert best["score"] == pytest.approx(score, abs=within)


def test_logits_equal_those_of_the_source_packages_own_network(lite0, codec, session):
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(lite0.source, weights_only=True))
    network.eval()
    images = np.stack([codec.decode((PHOTOS / photo).read_bytes()) for photo, *_ in ANSWERS])

    with torch.inference_mode():
        normalised = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128
        theirs = network(normalised).numpy()

    assert np.abs(session.run(images) - theirs).max() <= 1e-4


def test_with_the_network_cut_the_weights_come_from_the_cache(lite0, imports, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    starter = get_starter("efficientnet-lite0")
    imports.settings = lite0.settings

    brought = bring_source(imports.context({}), starter.source, sha256=starter.sha256)

    assert brought.sha256 == starter.sha256


def test_an_unknown_starter_is_refused_with_the_known_ones(imports):
    with pytest.raises(ImportRefused, match="there is efficientnet-lite0"):
        imports.run({"source": "starter:efficientnet-lite9", "name": "x"})
