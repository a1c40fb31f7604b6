"""Somebody's own segmentation graph: what is found in it, what is served of it, what is refused."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.errors import ImportRefused, InvalidRequest
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, Level, Task
from tests.importing import imports_in

SIDE = 24
LABELS = ("red", "green", "blue")


@pytest.fixture
def imports(tmp_path):
    return imports_in(tmp_path / "data")


def graph(*, last=None, batch="n", side=SIDE, deeper=False, clipped=False):
    """Three maps: each channel, normalised outside, as a logit. `last`: an operator after it."""
    nodes = [helper.make_node("Mul", ["pixels", "gain"], ["maps"])]
    name = "maps"
    if clipped:
        nodes.append(helper.make_node("Clip", ["maps", "zero", "one"], ["clipped"]))
        name = "clipped"
    if last is not None:
        attributes = {"axis": 1} if last == "Softmax" else {}
        nodes.append(helper.make_node(last, [name], ["shares"], **attributes))
        name = "shares"
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, side, side])]
    if deeper:
        nodes.append(helper.make_node("Sigmoid", ["pixels"], ["deeper"]))
        outputs.append(helper.make_tensor_value_info("deeper", TensorProto.FLOAT, [batch, 3, side, side]))
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, side, side])],
        outputs,
        [
            numpy_helper.from_array(np.float32([4.0]), "gain"),
            numpy_helper.from_array(np.float32(0.0), "zero"),
            numpy_helper.from_array(np.float32(1.0), "one"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def order(imports, data, **manifest):
    usage = {"labels": LABELS, "height": SIDE, "width": SIDE, "mean": 127.5, "std": 127.5, **manifest}
    source = f"file:{imports.upload(data)}"
    return {"source": source, "name": "mine", "task": "segmentation", "manifest": usage}


def refusal(imports, data, **manifest):
    with pytest.raises(ImportRefused) as caught:
        imports.run(order(imports, data, **manifest))
    return caught.value


@pytest.mark.parametrize(
    ("last", "found"), [(None, "softmax"), ("Softmax", "softmax"), ("Sigmoid", "sigmoid")]
)
@pytest.mark.parametrize("batch", ["n", 1])
def test_what_makes_shares_is_found_and_left_to_the_codec(imports, last, found, batch):
    publication = imports.run(order(imports, graph(last=last, batch=batch))).publish
    manifest = publication.manifest
    assert manifest.task is Task.SEGMENTATION
    assert manifest.masks.activation == found
    assert manifest.preprocessing.fit == "squash"
    assert manifest.outputs[0].shape == (-1, 3, SIDE, SIDE)
    assert publication.certificate.level is Level.IMPORTED
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    logits = ServedSession(publication.artifacts[MODEL_FILE]).run(pixels)
    np.testing.assert_allclose(logits, ((pixels - 127.5) / 127.5 * 4).transpose(0, 3, 1, 2), atol=1e-4)


def test_sizes_that_the_file_leaves_open_are_settled_by_a_run(imports):
    manifest = imports.run(order(imports, graph(side=None))).publish.manifest
    assert manifest.outputs[0].shape == (-1, 3, SIDE, SIDE)


def test_of_several_maps_the_first_is_served(imports):
    publication = imports.run(order(imports, graph(deeper=True))).publish
    grey = np.full((1, SIDE, SIDE, 3), 255, np.uint8)
    assert ServedSession(publication.artifacts[MODEL_FILE]).run(grey).max() == pytest.approx(4.0)


def test_what_is_said_of_the_maps_counts(imports):
    said = {"activation": "sigmoid", "fit": "pad", "is_stretched": True}
    manifest = imports.run(order(imports, graph(), **said)).publish.manifest
    assert (manifest.masks.activation, manifest.masks.is_stretched) == ("sigmoid", True)
    assert manifest.preprocessing.fit == "pad"


@pytest.mark.parametrize(
    ("options", "said", "param", "message"),
    [
        ({}, {"labels": ("a", "b")}, "source", r"\[N, 2, H, W\]|2 labels"),
        ({"last": "Sigmoid"}, {"activation": "softmax"}, "manifest.activation", "ends in a sigmoid"),
        ({"clipped": True}, {}, "source", "between 0 and 1"),
        ({}, {"height": 32, "width": 32}, "source", "24 pixels"),
    ],
)
def test_what_does_not_fit_is_refused(imports, options, said, param, message):
    error = refusal(imports, graph(**options), **said)
    assert error.param == param
    assert re.search(message, error.message), error.message
    assert error.hint


def test_a_classifier_is_no_segmenter_and_has_no_activation(imports):
    spec = order(imports, graph())
    with pytest.raises(ImportRefused, match="No single float32 output"):
        imports.run({**spec, "task": "classification"})
    spec["manifest"]["activation"] = "sigmoid"
    with pytest.raises(InvalidRequest, match="Only a segmenter"):
        imports.run({**spec, "task": "classification"})


def test_a_segmenter_must_see_the_whole_picture(imports):
    with pytest.raises(InvalidRequest, match="whole picture") as caught:
        imports.run(order(imports, graph(), fit="crop"))
    assert caught.value.param == "manifest.fit"
