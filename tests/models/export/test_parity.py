"""Certificates are computed from stored samples alone, and hold exactly when the numbers do."""

import copy
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from torch import nn

from models.export.eager import hold_against_eager, rounding_of, run_eager
from models.export.onnx import ExportFailed, Origin, export_classifier
from models.export.parity import ParityError, certify, compare, verify
from models.export.reference import (
    Reference,
    ReferenceInvalid,
    labels_sha256,
    read_reference,
    write_reference,
)
from models.export.served import ServedSession
from models.manifest import Level, Preprocessing
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits

LABELS = ("cat", "dog", "bird", "fish", "ant")
PREPROCESSING = Preprocessing(height=16, width=24, mean=(120.5, 110.25, 99.0), std=(60.1, 57.3, 44.9))


class Small(nn.Module):
    """A convolution, a norm that training has moved, and a linear head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, len(LABELS))
        with torch.no_grad():
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)
            self.head.weight.mul_(8)

    def forward(self, pixels):
        return self.head(torch.relu(self.norm(self.conv(pixels))).mean(dim=(2, 3)))


def samples(count=6):
    random = np.random.default_rng(1)
    encoded = []
    for _ in range(count):
        buffer = io.BytesIO()
        coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        coarse.resize((50, 40), Image.Resampling.BICUBIC).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    return tuple(encoded)


class Bundle:
    """One exported network with a reference by eager PyTorch."""

    def __init__(self, folder):
        self.network, self.folder = Small().eval(), folder
        self.model, self.reference_path = folder / "model.onnx", folder / "reference.safetensors"
        self.manifest = export_classifier(
            self.network, PREPROCESSING, LABELS, self.model, origin=Origin(architecture="small")
        )
        codec = ClassificationCodec(self.manifest, ImageLimits())
        self.images = np.stack([codec.decode(sample) for sample in samples()])
        logits = run_eager(self.network, PREPROCESSING, self.images)
        self.reference = Reference(
            samples=samples(),
            logits=logits,
            labels=tuple(LABELS[i] for i in logits.argmax(axis=1)),
            by="eager PyTorch",
            all_labels_sha256=labels_sha256(LABELS),
        )
        write_reference(self.reference_path, self.reference)

    def store(self, **changes):
        """The reference with something else in it."""
        path = self.folder / "changed.safetensors"
        write_reference(path, Reference(**(vars(self.reference) | changes)))
        return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle(tmp_path_factory.mktemp("bundle"))


# -- export --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 6])
def test_the_exported_graph_equals_the_network_at_every_batch_size(bundle, batch):
    session = ServedSession(bundle.model)

    assert session.run(bundle.images[:batch]) == pytest.approx(
        run_eager(bundle.network, PREPROCESSING, bundle.images[:batch]), abs=1e-5
    )


def test_the_manifest_states_the_graphs_tensors(bundle):
    image, logits = bundle.manifest.inputs[0], bundle.manifest.outputs[0]

    assert (image.name, image.dtype, image.shape) == ("image", "uint8", (-1, 16, 24, 3))
    assert (logits.name, logits.dtype, logits.shape) == ("logits", "float32", (-1, 5))
    assert bundle.manifest.parameters == sum(p.numel() for p in bundle.network.parameters())
    ServedSession(bundle.model).check(bundle.manifest)


def test_the_graph_is_one_file(bundle):
    assert sorted(path.name for path in bundle.folder.glob("*model*")) == ["model.onnx"]


def test_another_number_of_labels_is_not_exported(tmp_path):
    with pytest.raises(ExportFailed, match="gives 5 values; there are 2 labels"):
        export_classifier(Small(), PREPROCESSING, ["a", "b"], tmp_path / "m.onnx", origin=Origin())


def test_a_graph_that_is_not_the_network_is_told_by_eager_pytorch(bundle):
    run = ServedSession(bundle.model).run
    other = Small().eval()
    other.load_state_dict(bundle.network.state_dict())
    with torch.no_grad():
        other.head.bias[2] += 0.001

    assert hold_against_eager(run, bundle.network, PREPROCESSING, bundle.images) < 1e-5
    with pytest.raises(ParityError, match=r"by 0\.001"):
        hold_against_eager(run, other, PREPROCESSING, bundle.images)


# -- certificates --------------------------------------------------------------------------------------


def test_an_agreement_is_what_an_independent_sum_says(bundle):
    session = ServedSession(bundle.model)
    outputs = session.run(bundle.images)
    reference = bundle.reference

    agreement = compare(session.run, ClassificationCodec(bundle.manifest, ImageLimits()), reference)

    margins = np.sort(reference.logits)[:, -1] - np.sort(reference.logits)[:, -2]
    assert agreement.samples == 6
    assert agreement.max_abs == pytest.approx(np.abs(outputs - reference.logits).max(), rel=0.5, abs=1e-6)
    assert agreement.tolerance == max(1e-4, 1e-5 * np.abs(reference.logits).max())
    assert agreement.decided == (margins > 2 * agreement.max_abs).sum() == 6
    assert agreement.top1 == 1.0
    assert agreement.cosine == pytest.approx(1.0, abs=1e-6)


def test_a_certificate_needs_no_torch(bundle):
    script = (
        "import sys; from pathlib import Path; from models.export.parity import verify;"
        "from models.manifest import Manifest;"
        f"m = Manifest.model_validate_json({bundle.manifest.to_json().decode()!r});"
        f"c = verify(Path({str(bundle.model)!r}), m, Path({str(bundle.reference_path)!r}));"
        "print(c.level, 'torch' in sys.modules, 'onnx' in sys.modules)"
    )

    told = subprocess.check_output([sys.executable, "-c", script], cwd=Path(__file__).parents[3], text=True)

    assert told.split() == ["certified", "False", "False"]


def test_a_certificate_recomputed_is_the_stored_one(bundle):
    stored = certify(bundle.model, bundle.manifest, bundle.reference_path)

    again = verify(bundle.model, bundle.manifest, bundle.reference_path, against=stored)

    assert stored.level is Level.CERTIFIED
    assert again.agreement == stored.agreement
    assert again.model_sha256 == stored.model_sha256


def test_verification_refuses_files_the_certificate_does_not_speak_of(bundle):
    stored = certify(bundle.model, bundle.manifest, bundle.reference_path)
    relabelled = bundle.manifest.model_copy(update={"licence": "mine"})

    with pytest.raises(ParityError, match="manifest is not the certified one"):
        verify(bundle.model, relabelled, bundle.reference_path, against=stored)
    with pytest.raises(ParityError, match="reference is not the certified one"):
        verify(bundle.model, bundle.manifest, None, against=stored)
    with pytest.raises(ParityError, match="reference is not the certified one"):
        verify(bundle.model, bundle.manifest, bundle.store(by="somebody"), against=stored)


def test_without_a_reference_nothing_is_claimed(bundle):
    certificate = certify(bundle.model, bundle.manifest)

    assert certificate.level is Level.IMPORTED
    assert certificate.agreement is None
    assert certificate.reference_by is None


def test_a_difference_over_the_tolerance_names_sample_size_and_label(bundle):
    logits = bundle.reference.logits.copy()
    logits[3] = np.roll(logits[3], 1)

    with pytest.raises(ParityError, match=r"1 of 6 samples .* sample 3 by \d") as caught:
        certify(bundle.model, bundle.manifest, bundle.store(logits=logits))

    assert "mean" in caught.value.hint


def off_by(bundle, share):
    """The reference's logits, each moved by a share of the largest; and the largest."""
    largest = float(np.abs(bundle.reference.logits).max())
    return bundle.reference.logits + np.float32(share * largest), largest


def test_a_network_that_magnifies_rounding_may_differ_by_eight_times_that(bundle):
    logits, largest = off_by(bundle, 5e-4)
    for rounding, holds in ((0.0, False), (5e-5 * largest, False), (8e-5 * largest, True)):
        reference = bundle.store(logits=logits, rounding=rounding)
        if holds:
            agreement = certify(bundle.model, bundle.manifest, reference).agreement
            assert agreement.tolerance == pytest.approx(8 * rounding)
        else:
            with pytest.raises(ParityError, match="6 of 6 samples differ"):
                certify(bundle.model, bundle.manifest, reference)


def test_no_rounding_excuses_more_than_a_thousandth_of_the_largest_output(bundle):
    logits, largest = off_by(bundle, 2e-3)
    with pytest.raises(ParityError, match="6 of 6 samples differ"):
        certify(bundle.model, bundle.manifest, bundle.store(logits=logits, rounding=largest))


def test_rounding_is_what_float64_says_and_leaves_the_network_in_float32(bundle):
    twin = copy.deepcopy(bundle.network)
    small = rounding_of(twin, PREPROCESSING, bundle.images)
    with torch.no_grad():
        twin.head.weight *= 1000
        twin.head.bias *= 1000
    assert 0 < small < 1e-5
    assert rounding_of(twin, PREPROCESSING, bundle.images) == pytest.approx(1000 * small, rel=0.9)
    assert {one.dtype for one in twin.parameters()} == {torch.float32}


def test_nothing_is_known_of_the_rounding_of_a_network_that_insists_on_float32(bundle):
    twin = copy.deepcopy(bundle.network)
    twin.head.register_forward_pre_hook(lambda _layer, inputs: inputs[0].float())
    assert rounding_of(twin, PREPROCESSING, bundle.images) == 0.0


def test_a_difference_under_the_tolerance_passes(bundle):
    logits = bundle.reference.logits + np.float32(0.5e-4)

    certificate = certify(bundle.model, bundle.manifest, bundle.store(logits=logits))

    assert certificate.agreement.max_abs == pytest.approx(0.5e-4, rel=0.1)


def test_a_sample_between_two_labels_decides_nothing(bundle):
    expected, found = bundle.reference.logits.copy(), bundle.reference.logits.copy()
    first, second = np.argsort(-expected[0])[:2]
    expected[0, second] = expected[0, first] - 1e-5
    found[0, second] = found[0, first] + 1e-5
    answers = {image.tobytes(): logits for image, logits in zip(bundle.images, found, strict=True)}
    tied = Reference(**(vars(bundle.reference) | {"logits": expected}))

    agreement = compare(
        lambda images: np.stack([answers[image.tobytes()] for image in images]),
        ClassificationCodec(bundle.manifest, ImageLimits()),
        tied,
    )

    assert (agreement.decided, agreement.top1) == (5, 1.0)


def test_right_outputs_under_wrong_labels_are_refused(bundle):
    swapped = bundle.manifest.model_copy(update={"labels": LABELS[::-1]})

    with pytest.raises(ParityError, match="labels, or their order"):
        certify(bundle.model, swapped, bundle.reference_path)
    with pytest.raises(ParityError, match="outputs agree but"):
        certify(bundle.model, swapped, bundle.store(all_labels_sha256=None))


def test_a_manifest_of_another_graph_is_refused(bundle):
    short = bundle.manifest.model_copy(update={"labels": LABELS[:4]})
    image = bundle.manifest.inputs[0].model_copy(update={"shape": (-1, 24, 16, 3)})
    turned = bundle.manifest.model_copy(update={"inputs": (image,)})

    with pytest.raises(ParityError, match="4 labels"):
        certify(bundle.model, short)
    with pytest.raises(ParityError, match="manifest states the inputs"):
        certify(bundle.model, turned)


# -- reference files -----------------------------------------------------------------------------------


def test_a_reference_comes_back_as_it_was_written(bundle):
    again = read_reference(bundle.reference_path)

    assert again.samples == bundle.reference.samples
    assert np.array_equal(again.logits, bundle.reference.logits)
    assert (again.labels, again.by) == (bundle.reference.labels, bundle.reference.by)


ONE = {"sample.0": np.zeros(9, np.uint8), "logits": np.zeros((1, 5), np.float32)}


@pytest.mark.parametrize(
    ("tensors", "metadata", "says"),
    [
        ({"logits": ONE["logits"]}, {"labels": "[]"}, "0 samples"),
        ({"sample.0": ONE["sample.0"]}, {"labels": '["a"]'}, "needs `logits`"),
        (ONE | {"sample.2": ONE["sample.0"]}, {"labels": '["a"]'}, "samples as"),
        (ONE | {"logits": np.zeros((2, 5), np.float32)}, {"labels": '["a"]'}, r"must be float32 \[1, C\]"),
        (ONE | {"logits": np.zeros((1, 5))}, {"labels": '["a"]'}, "float64"),
        (ONE | {"sample.0": np.zeros((3, 3), np.uint8)}, {"labels": '["a"]'}, "one dimension"),
        (ONE, {}, "JSON list of 1 labels"),
        (ONE, {"labels": '["a", "b"]'}, "JSON list of 1 labels"),
        (ONE, {"labels": "[1]"}, "JSON list of 1 labels"),
        (ONE, {"labels": "{"}, "JSON list of 1 labels"),
        (ONE, {"labels": '["a"]', "format": "9"}, "format '9'"),
        (ONE, {"labels": '["a"]', "rounding": "-1"}, "`rounding` must be"),
        (ONE, {"labels": '["a"]', "rounding": "inf"}, "`rounding` must be"),
        (ONE, {"labels": '["a"]', "rounding": "nan"}, "`rounding` must be"),
        (ONE, {"labels": '["a"]', "rounding": "much"}, "`rounding` must be"),
        (ONE, {"labels": '["a"]', "allowed": "-1"}, "`allowed` must be"),
        (ONE, {"labels": '["a"]', "least_same_label": "nan"}, "`least_same_label` must be"),
    ],
)
def test_a_malformed_reference_says_what_is_wrong(tmp_path, tensors, metadata, says):
    save_file(tensors, tmp_path / "reference", metadata=metadata)

    with pytest.raises(ReferenceInvalid, match=says):
        read_reference(tmp_path / "reference")


@pytest.mark.parametrize(("side", "at_once"), [(16, 30), (320, 1)])
def test_large_pictures_go_through_the_network_a_few_at_a_time(side, at_once):
    seen = []

    class Watching(Small):
        def forward(self, pixels):
            seen.append(len(pixels))
            return super().forward(pixels)

    images = np.random.default_rng(2).integers(0, 256, (30, side, side, 3), np.uint8)
    preprocessing = PREPROCESSING.model_copy(update={"height": side, "width": side})
    outputs = run_eager(Watching().eval(), preprocessing, images)
    assert seen == [at_once] * (30 // at_once)
    last = run_eager(Small().eval(), preprocessing, images[-1:])
    np.testing.assert_allclose(outputs[-1:], last, rtol=1e-4, atol=1e-5)
