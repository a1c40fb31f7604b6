"""U²-Net-p comes in from the ONNX file of its source, and finds what stands in the foreground."""

import numpy as np
import onnx
import onnxruntime
import pytest

from models.build.network import save_weights
from models.build.state_file import read_state
from models.build.u2net import U2Net
from models.export.parity import ParityError, verify
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, REFERENCE_FILE, WEIGHTS_FILE, Level, Task
from models.starters import get_starter
from models.tasks.images import ImageLimits, probe_image
from models.tasks.segmentation import SegmentationCodec
from tests.importing import PHOTOS

# Share of the picture that is foreground.
FOREGROUND = {"astronaut.jpg": 0.555, "coffee.png": 0.476, "rocket.jpg": 0.023}


@pytest.fixture(scope="module")
def u2netp(first_start):
    return first_start.starter("u2netp")


@pytest.fixture(scope="module")
def codec(u2netp):
    return SegmentationCodec(u2netp.manifest, ImageLimits())


@pytest.fixture(scope="module")
def session(u2netp):
    return ServedSession(u2netp.artifacts[MODEL_FILE])


def source_shares(u2netp, pixels):
    """What the source's own file gives for uint8 pixels (n, H, W, 3): shares of the foreground, before they
    are stretched."""
    starter = get_starter("u2netp")
    model = onnx.load(u2netp.source)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    scaled = (pixels - np.array(starter.preprocessing.mean)) / np.array(starter.preprocessing.std)
    planes = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)
    name = model.graph.output[0].name
    return np.concatenate([session.run([name], {"input.1": one[None]})[0] for one in planes])


def test_it_is_certified_against_the_source_s_own_file(u2netp):
    certificate = u2netp.certificate
    assert certificate.level is Level.CERTIFIED
    assert certificate.reference_by == "the source's own u2netp.onnx"
    assert certificate.agreement.samples == 2
    assert certificate.agreement.max_abs < 1e-3
    assert certificate.agreement.cosine > 0.999999
    manifest = u2netp.manifest
    assert manifest.task is Task.SEGMENTATION
    assert manifest.labels == ("foreground",)
    assert manifest.outputs[0].shape == (-1, 1, 320, 320)
    assert manifest.parameters == 1_125_485
    assert manifest.masks.is_stretched


def test_its_certificate_is_computed_again_from_what_is_stored(u2netp):
    model, reference = u2netp.artifacts[MODEL_FILE], u2netp.artifacts[REFERENCE_FILE]
    again = verify(model, u2netp.manifest, reference, against=u2netp.certificate)
    assert again.agreement == u2netp.certificate.agreement


def test_another_way_to_make_pixels_is_noticed(u2netp):
    changed = u2netp.manifest.preprocessing.model_copy(update={"interpolation": "nearest"})
    manifest = u2netp.manifest.model_copy(update={"preprocessing": changed})
    with pytest.raises(ParityError, match="2 of 2 samples differ"):
        verify(u2netp.artifacts[MODEL_FILE], manifest, u2netp.artifacts[REFERENCE_FILE])


def test_its_shares_equal_those_of_the_source_s_file_to_1e_5(u2netp, codec, session):
    pixels = np.stack([codec.decode((PHOTOS / name).read_bytes()) for name in FOREGROUND])
    logits = np.concatenate([session.run(one[None]) for one in pixels])
    assert np.abs(1 / (1 + np.exp(-logits)) - source_shares(u2netp, pixels)).max() < 1e-5


@pytest.mark.parametrize("name", FOREGROUND)
def test_photos_have_the_foreground_they_are_known_for(codec, session, name):
    data = (PHOTOS / name).read_bytes()
    facts = probe_image(data, ImageLimits())
    (shares,) = codec.encode_batch(session.run(codec.decode(data)[None]), [None])
    masks = codec.masks_of(shares, (facts.height, facts.width))
    (found,) = masks.segments([0], 0.5)
    assert found.mask.shape == (facts.height, facts.width)
    assert found.mask.mean() == pytest.approx(FOREGROUND[name], abs=0.02)
    assert found.score > 0.8


def test_its_weights_are_kept_under_the_network_s_own_names(u2netp, tmp_path):
    network = U2Net()
    network.load_state_dict(read_state(u2netp.artifacts[WEIGHTS_FILE], file_name=WEIGHTS_FILE), strict=True)
    save_weights(network, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == u2netp.artifacts[WEIGHTS_FILE].read_bytes()
