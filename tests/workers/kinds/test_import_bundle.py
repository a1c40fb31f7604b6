"""A bundle of model, manifest and reference comes in certified; each edited bundle is refused."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.access.principal import Principal
from app.errors import Forbidden, ImportRefused, InvalidRequest, NotFound, ParityFailed
from models.export.reference import Reference, read_reference, write_reference
from models.manifest import MODEL_FILE, REFERENCE_FILE, Level
from workers.kinds.import_model import run

MEAN = "athanor/mean"


@pytest.fixture(scope="session")
def model_bytes(lite0):
    return lite0.artifacts[MODEL_FILE].read_bytes()


@pytest.fixture
def bundle(lite0, imports, model_bytes):
    """Imports the bundle, with what a test has changed about it."""

    def bring(*, model=model_bytes, reference="stored", labels=None, **changes):
        manifest = json.loads(lite0.manifest.to_json())
        manifest["labels"] = labels or manifest["labels"]
        manifest["preprocessing"] |= changes
        if reference == "stored":
            reference = lite0.artifacts[REFERENCE_FILE].read_bytes()
        spec = {"source": f"file:{imports.upload(model)}", "name": "bundle", "manifest": manifest}
        if reference is not None:
            spec["reference"] = imports.upload(reference, "reference.safetensors")
        return imports.run(spec)

    return bring


def edited(data, name, change):
    """The graph with one constant changed; `name` is the whole name or its end."""
    model = onnx.load_from_string(data)
    tensors = [tensor for tensor in model.graph.initializer if tensor.name.endswith(name)]
    assert len(tensors) == 1, [tensor.name for tensor in model.graph.initializer]
    array = numpy_helper.to_array(tensors[0]).copy()
    change(array)
    tensors[0].CopyFrom(numpy_helper.from_array(array, tensors[0].name))
    return model.SerializeToString()


def add(amount, index=0):
    def change(array):
        array.reshape(-1)[index] += amount

    return change


def test_an_untouched_bundle_is_certified(bundle):
    outcome = bundle()

    assert outcome.publish.certificate.level is Level.CERTIFIED
    assert outcome.publish.name == "bundle"
    assert outcome.result == {"level": "certified"}


def test_without_a_reference_it_is_only_imported(bundle):
    outcome = bundle(reference=None)

    certificate = outcome.publish.certificate
    assert certificate.level is Level.IMPORTED
    assert certificate.agreement is None
    assert certificate.reference_sha256 is None
    assert REFERENCE_FILE not in outcome.publish.artifacts


@pytest.mark.parametrize("where", ["classifier.weight", "classifier.bias"])
def test_one_edited_weight_is_refused(bundle, model_bytes, where):
    with pytest.raises(ParityFailed, match=r"samples differ from the reference by more than") as caught:
        bundle(model=edited(model_bytes, where, add(0.05, index=281)))

    assert "sample" in caught.value.message
    assert caught.value.hint


def test_an_edited_mean_constant_is_refused(bundle, model_bytes):
    darker = edited(model_bytes, MEAN, add(1.0))

    with pytest.raises(ParityFailed, match="differ from the reference"):
        bundle(model=darker)
    with pytest.raises(ParityFailed, match="differ from the reference"):
        bundle(model=darker, mean=[128.0, 127.0, 127.0])
    with pytest.raises(ImportRefused, match="mean"):
        bundle(model=darker, reference=None)


def test_a_manifest_that_lies_about_the_mean_is_refused(bundle):
    with pytest.raises(ImportRefused, match="mean") as caught:
        bundle(mean=[123.675, 116.28, 103.53])

    assert caught.value.param == "manifest.mean"


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(lambda labels: labels[::-1], id="reversed"),
        pytest.param(lambda labels: [labels[1], labels[0], *labels[2:]], id="two that no sample shows"),
        pytest.param(lambda labels: labels[1:] + labels[:1], id="off by one"),
    ],
)
def test_another_label_order_is_refused(bundle, lite0, order):
    with pytest.raises(ParityFailed, match="labels"):
        bundle(labels=order(list(lite0.manifest.labels)))


def test_a_label_order_is_held_against_the_samples_when_the_reference_has_no_hash(bundle, lite0, tmp_path):
    stored = read_reference(lite0.artifacts[REFERENCE_FILE])
    path = tmp_path / "plain.safetensors"
    write_reference(
        path, Reference(samples=stored.samples, logits=stored.logits, labels=stored.labels, by="the test")
    )

    with pytest.raises(ParityFailed, match=r"labels do not: sample 0 is .*, expected 'Egyptian cat'"):
        bundle(reference=path.read_bytes(), labels=list(lite0.manifest.labels)[::-1])
    assert bundle(reference=path.read_bytes()).publish.certificate.reference_by == "the test"


@pytest.mark.parametrize(
    "changes",
    [{"interpolation": "bilinear"}, {"crop": 0.9}, {"fit": "squash"}, {"fit": "pad"}],
    ids=lambda changes: "-".join(map(str, *changes.items())),
)
def test_another_resize_is_refused(bundle, changes):
    with pytest.raises(ParityFailed, match="differ from the reference"):
        bundle(**changes)


def test_another_size_is_refused_by_the_graph(bundle):
    with pytest.raises(ImportRefused, match="height of 224 pixels, you gave 192"):
        bundle(height=192, width=192)


def test_a_reference_that_is_none_is_refused(bundle):
    with pytest.raises(ParityFailed, match="not a safetensors file"):
        bundle(reference=b"never a reference")


def test_a_reference_of_another_network_is_refused(bundle, lite0, tmp_path):
    stored = read_reference(lite0.artifacts[REFERENCE_FILE])
    path = tmp_path / "short.safetensors"
    short = Reference(
        samples=stored.samples, logits=stored.logits[:, :10], labels=stored.labels, by="another"
    )
    write_reference(path, short)

    with pytest.raises(ParityFailed, match="gives 1000 outputs, the reference has 10"):
        bundle(reference=path.read_bytes())


def test_a_sample_that_is_no_image_is_named(bundle, lite0, tmp_path):
    stored = read_reference(lite0.artifacts[REFERENCE_FILE])
    path = tmp_path / "broken.safetensors"
    broken = Reference(
        samples=(b"no image", *stored.samples[1:]), logits=stored.logits, labels=stored.labels, by="x"
    )
    write_reference(path, broken)

    with pytest.raises(ParityFailed, match="cannot be decoded"):
        bundle(reference=path.read_bytes())


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ({"manifest": {"labels": []}}, ImportRefused, "labels are missing"),
        ({"manifest": {"labels": ["a", " "], "height": 8, "width": 8}}, ImportRefused, "Label 1 is empty"),
        ({"manifest": {"labels": ["a", "b"]}}, ImportRefused, "image size is missing"),
        ({"manifest": {"labels": ["a"], "std": [0, 1, 1]}}, InvalidRequest, "manifest.std"),
        ({"manifest": {"labels": ["a"], "mean": "inf"}}, InvalidRequest, "manifest.mean"),
        ({"manifest": {"labels": ["a"], "colour": "red"}}, InvalidRequest, "manifest.colour"),
        ({"name": "Not A Name"}, InvalidRequest, "cannot be named"),
        ({"task": "embedding"}, InvalidRequest, "embedding cannot be imported yet"),
        ({"sha256": "0" * 64}, ImportRefused, "expected 0000"),
        ({"source": "file:file_absent"}, NotFound, "no file 'file_absent'"),
        ({"source": "gopher://x"}, ImportRefused, "no known kind of source"),
        ({"source": "file:/absent.onnx"}, ImportRefused, "no file /absent.onnx"),
    ],
)
def test_orders_that_make_no_sense_say_why(imports, spec, error, says):
    order = {"source": f"file:{imports.upload(b'whatever')}", "name": "mine"} | spec

    with pytest.raises(error, match=says) as caught:
        imports.run(order)

    assert caught.value.hint


def test_a_file_of_this_machine_is_for_the_operator_only(imports, tmp_path):
    context = imports.context(
        {"source": f"file:{tmp_path / 'secret.onnx'}", "name": "mine"}, Principal(tenant_id="guest")
    )

    with pytest.raises(Forbidden):
        run(context)


def test_an_onnx_file_comes_in_without_torch(lite0, imports, run_python):
    spec = {
        "source": f"file:{imports.upload(lite0.artifacts[MODEL_FILE].read_bytes())}",
        "name": "mine",
        "manifest": json.loads(lite0.manifest.to_json()),
    }

    loaded = run_python(
        f"""
        import json, sys
        from pathlib import Path
        from tests.importing import Imports
        from app.settings import Settings
        imports = Imports(Settings(data_dir=Path({str(imports.settings.data_dir)!r}), _env_file=None))
        level = imports.run(json.loads({json.dumps(json.dumps(spec))}))
        print(level.result["level"], "torch" in sys.modules)
        """
    )

    assert loaded == "imported False"


def test_logits_of_the_reference_are_not_trusted_when_they_are_not_numbers(bundle, lite0, tmp_path):
    stored = read_reference(lite0.artifacts[REFERENCE_FILE])
    path = tmp_path / "nan.safetensors"
    logits = np.full_like(stored.logits, np.nan)
    write_reference(path, Reference(samples=stored.samples, logits=logits, labels=stored.labels, by="x"))

    with pytest.raises(ParityFailed, match="not finite"):
        bundle(reference=path.read_bytes())
