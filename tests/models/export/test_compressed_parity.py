"""A compressed graph may differ by what its reference says, and nothing else may."""

import json

import numpy as np
import pytest

from app.errors import ParityFailed
from app.registry.policy import check_publishable
from app.storage.objects import Stored
from models.export.parity import ParityError, certify
from models.export.reference import Reference, write_reference
from models.export.served import ServedSession
from models.manifest import Certificate, Manifest, Precision, Preprocessing, Task, TensorFacts
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits
from tests.colour_models import COLOURS, picture
from tests.compress_world import SIDE, write_convolutions
from tests.registry_world import build_certificate, build_manifest

PLAIN = Manifest(
    task=Task.CLASSIFICATION,
    inputs=(TensorFacts(name="image", dtype="uint8", shape=(-1, SIDE, SIDE, 3)),),
    outputs=(TensorFacts(name="logits", dtype="float32", shape=(-1, 3)),),
    preprocessing=Preprocessing(height=SIDE, width=SIDE, crop=1.0),
    labels=COLOURS,
)
COMPRESSED = PLAIN.model_copy(update={"precision": Precision.INT8})


class Graph:
    """A graph, and references that are off by some."""

    def __init__(self, folder):
        self.path, self.folder = folder / "model.onnx", folder
        write_convolutions(self.path)
        self.samples = tuple(picture(colour, size=SIDE, noise=n) for n in (1, 2) for colour in COLOURS)
        codec = ClassificationCodec(PLAIN, ImageLimits())
        self.logits = ServedSession(self.path).run(np.stack([codec.decode(each) for each in self.samples]))

    def reference(self, *, off=0.0, wrong=0, **allowance):
        """All outputs are off by so much, and of so many samples the best two are changed round."""
        logits = self.logits + np.float32(off)
        for row in logits[:wrong]:
            first, second = np.argsort(-row)[:2]
            row[[first, second]] = row[[second, first]]
        path = self.folder / "reference.safetensors"
        labels = tuple(COLOURS[index] for index in logits.argmax(axis=1))
        write_reference(
            path, Reference(samples=self.samples, logits=logits, labels=labels, by="a test", **allowance)
        )
        return path


@pytest.fixture
def graph(tmp_path):
    return Graph(tmp_path)


def test_it_may_differ_by_what_its_reference_allows(graph):
    near = graph.reference(off=0.1, allowed=0.2, least_same_label=0.9)
    agreement = certify(graph.path, COMPRESSED, near).agreement
    assert agreement.max_abs == pytest.approx(0.1, rel=1e-3)
    assert (agreement.tolerance, agreement.same_label, agreement.least_same_label) == (0.2, 1.0, 0.9)
    far = graph.reference(off=0.3, allowed=0.2, least_same_label=0.9)
    with pytest.raises(ParityError, match=r"6 of 6 samples differ from the reference by more than 0\.2"):
        certify(graph.path, COMPRESSED, far)


def test_any_other_graph_can_allow_itself_nothing(graph):
    with pytest.raises(ParityError, match="6 of 6 samples differ"):
        certify(graph.path, PLAIN, graph.reference(off=0.1, allowed=0.2, least_same_label=0.0))
    with pytest.raises(ParityError, match="6 of 6 samples differ"):
        certify(graph.path, COMPRESSED, graph.reference(off=0.1, allowed=0.2))  # it says of no share
    with pytest.raises(ParityError, match="6 of 6 samples differ"):  # which says nothing of labels
        certify(graph.path, COMPRESSED, graph.reference(off=0.1, allowed=0.2, least_psnr_db=0.0))


def test_the_share_of_samples_that_keep_their_label_is_demanded(graph):
    held = {"allowed": 100.0, "least_same_label": 0.8}
    assert certify(graph.path, COMPRESSED, graph.reference(wrong=1, **held)).agreement.same_label == 5 / 6
    with pytest.raises(ParityError, match=r"66\.67% of 6 samples keep their label, less than 80\.00%"):
        certify(graph.path, COMPRESSED, graph.reference(wrong=2, **held))


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ({"same_label": 0.98}, r"98\.00% of 4 samples keep their label, less than 99\.00%"),
        ({"same_label": float("nan")}, r"nan% of 4 samples keep their label, less than 99\.00%"),
        ({"mean_iou": 0.94}, r"masks have a mean IoU of 94\.00%, less than 95\.00%"),
        ({"mean_iou": float("nan")}, r"masks have a mean IoU of nan%, less than 95\.00%"),
        ({"psnr_db": 39.9}, r"pictures have a PSNR of 39\.90 dB, less than 40\.00"),
        ({"psnr_db": float("nan")}, r"pictures have a PSNR of nan dB, less than 40\.00"),
    ],
)
def test_no_version_is_published_that_has_lost_more_than_was_allowed(lost, said):
    manifest = build_manifest()
    labels = {"same_label": 1.0, "least_same_label": 0.99, "mean_iou": 1.0, "least_iou": 0.95}
    kept = {**labels, "psnr_db": 50.0, "least_psnr_db": 40.0, **lost}
    certificate = build_certificate(manifest, b"onnx", b"samples", **kept)
    files = {
        "model.onnx": certificate.model_sha256,
        "manifest.json": certificate.manifest_sha256,
        "reference.safetensors": certificate.reference_sha256,
        "certificate.json": "0" * 64,
    }
    stored = {name: Stored(sha256=sha256, size_bytes=1) for name, sha256 in files.items()}
    with pytest.raises(ParityFailed, match=said):
        check_publishable(certificate, stored)


def test_what_was_stored_before_there_were_such_graphs_keeps_its_bytes(graph):
    plain = json.loads(certify(graph.path, PLAIN, graph.reference()).to_json())
    assert "compared_with" not in plain
    assert not {"same_label", "least_same_label"} & set(plain["agreement"])
    assert "precision" not in json.loads(PLAIN.to_json())
    compressed = certify(graph.path, COMPRESSED, graph.reference(allowed=1.0, least_same_label=0.5))
    assert json.loads(compressed.to_json())["agreement"]["same_label"] == 1.0
    assert Certificate.model_validate_json(compressed.to_json()) == compressed
    assert json.loads(COMPRESSED.to_json())["precision"] == "int8"
