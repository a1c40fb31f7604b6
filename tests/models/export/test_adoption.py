"""Bring your own ONNX: each graph that is taken answers its own numbers as a served graph."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.export.adopt import Adopted
from tests.tiny_graphs import (
    CLASSES,
    GREY_WEIGHT,
    IMAGES,
    MEAN,
    NCHW,
    NHWC,
    PLAIN,
    SIDE,
    STD,
    WEIGHT,
    graph,
    linear,
    linear_graph,
)


def normalised(images):
    return (images.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)


def nchw_logits(images):
    return normalised(images).transpose(0, 3, 1, 2).reshape(len(images), -1) @ WEIGHT


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-5)


def test_float_nchw(adopted):
    facts, session = adopted(linear_graph())

    assert facts == Adopted(max_batch=None, opset=17, parameters=WEIGHT.size, mean=None, std=None)
    assert session.inputs[0].name == "image"
    assert session.inputs[0].dtype == "uint8"
    assert session.inputs[0].shape == (-1, SIDE, SIDE, 3)
    assert session.outputs[0].name == "logits"
    assert_same(session.run(IMAGES), nchw_logits(IMAGES))


def test_float_nhwc(adopted):
    _, session = adopted(linear_graph(shape=NHWC))

    assert_same(session.run(IMAGES), normalised(IMAGES).reshape(5, -1) @ WEIGHT)


@pytest.mark.parametrize("shape", [NCHW, NHWC])
def test_uint8_graphs_normalise_by_themselves(adopted, refused, shape):
    nodes, more = linear()
    nodes = [helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT), *nodes]
    nodes[1].input[0] = "float"
    model = graph(nodes, shape=shape, dtype=TensorProto.UINT8, more=more)
    order = (0, 1, 2, 3) if shape == NHWC else (0, 3, 1, 2)

    _, session = adopted(model, PLAIN)

    assert_same(session.run(IMAGES), IMAGES.transpose(order).reshape(5, -1).astype(np.float32) @ WEIGHT)
    refused(model, "normalises by itself")


def test_bgr(adopted):
    _, session = adopted(linear_graph(), PLAIN, channels="bgr")

    swapped = IMAGES[..., ::-1].transpose(0, 3, 1, 2).reshape(5, -1).astype(np.float32)
    assert_same(session.run(IMAGES), swapped @ WEIGHT)


def test_one_channel_gets_the_grey_that_pillow_makes(adopted, refused):
    nodes, more = linear(weight=GREY_WEIGHT)
    model = graph(nodes, shape=("n", 1, SIDE, SIDE), more=more)

    _, session = adopted(model, PLAIN)

    grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in IMAGES])
    np.testing.assert_allclose(
        session.run(IMAGES), grey.reshape(5, -1).astype(np.float32) @ GREY_WEIGHT, atol=1e-3
    )
    refused(model, "takes 1", channels="bgr")
    refused(linear_graph(), "takes 3", channels="grey")


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_a_final_softmax_is_left_out_so_that_logits_are_logits(adopted, operator):
    nodes, more = linear("scores")
    model = graph([*nodes, helper.make_node(operator, ["scores"], ["y"], axis=-1)], more=more)

    _, session = adopted(model)

    assert_same(session.run(IMAGES), nchw_logits(IMAGES))


def test_probabilities_made_otherwise_keep_their_values_under_softmax(adopted):
    nodes, more = linear("scores")
    nodes += [
        helper.make_node("Exp", ["scores"], ["exp"]),
        helper.make_node("ReduceL1", ["exp"], ["sum"], axes=[1], keepdims=1),
        helper.make_node("Div", ["exp", "sum"], ["y"]),
    ]

    _, session = adopted(graph(nodes, more=more))

    shares = np.exp(nchw_logits(IMAGES))
    shares /= shares.sum(axis=1, keepdims=True)
    assert_same(np.exp(session.run(IMAGES)), shares)


def test_a_batch_fixed_for_no_reason_is_freed(adopted):
    facts, session = adopted(linear_graph(shape=(1, 3, SIDE, SIDE)))

    assert facts.max_batch is None
    assert_same(session.run(IMAGES), nchw_logits(IMAGES))


def reshaping(batch):
    nodes, more = linear("scores")
    more += [numpy_helper.from_array(np.array([batch, CLASSES], np.int64), "to")]
    return graph(
        [*nodes, helper.make_node("Reshape", ["scores", "to"], ["y"])],
        shape=(batch, 3, SIDE, SIDE),
        more=more,
    )


def test_a_batch_that_is_really_one_stays_one(adopted):
    facts, session = adopted(reshaping(1))

    assert facts.max_batch == 1
    assert session.inputs[0].shape == (1, SIDE, SIDE, 3)
    assert_same(session.run(IMAGES[:1]), nchw_logits(IMAGES[:1]))


def test_a_batch_that_is_really_two_is_refused(refused):
    refused(reshaping(2), "batches of exactly 2")


def test_dynamic_height_and_width_are_fixed_to_what_the_manifest_says(adopted):
    _, session = adopted(linear_graph(shape=("n", 3, "h", "w")))

    assert session.inputs[0].shape == (-1, SIDE, SIDE, 3)
    assert_same(session.run(IMAGES), nchw_logits(IMAGES))


def test_the_fitting_one_of_several_outputs_is_taken(adopted):
    model = linear_graph()
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 108]))

    _, session = adopted(model)

    assert len(session.outputs) == 1
    assert_same(session.run(IMAGES), nchw_logits(IMAGES))


def test_functions_inside_the_file_are_inlined(adopted):
    body = helper.make_function(
        "theirs",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    nodes, more = linear("half")
    model = graph([*nodes, helper.make_node("Twice", ["half"], ["y"], domain="theirs")], more=more)
    model.functions.append(body)
    model.opset_import.append(helper.make_opsetid("theirs", 1))

    _, session = adopted(model)

    assert_same(session.run(IMAGES), 2 * nchw_logits(IMAGES))


def test_a_served_graph_comes_in_again_as_it_is(adopted, tmp_path):
    _, first = adopted(linear_graph())
    served = (tmp_path / "served.onnx").read_bytes()

    facts, second = adopted(served)

    assert facts.mean == pytest.approx(MEAN)
    assert facts.std == pytest.approx(STD, rel=1e-6)
    np.testing.assert_array_equal(second.run(IMAGES), first.run(IMAGES))
