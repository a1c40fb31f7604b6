"""Bring your own ONNX: files that are refused, each with what is wrong and what to do."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.export.adopt import Limits
from models.manifest import Preprocessing
from tests.tiny_graphs import (
    CLASSES,
    SIDE,
    graph,
    linear,
    linear_graph,
)


@pytest.mark.parametrize("location", ["weights.bin", "/etc/passwd", "../../secret"])
def test_weights_outside_the_file_are_refused(refused, location):
    model = linear_graph()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location)
    model.graph.initializer[0].ClearField("raw_data")

    refused(model, "lies outside the file")


def test_weights_outside_the_file_are_found_inside_branches_too(refused):
    hidden = numpy_helper.from_array(np.ones(1, np.float32), "w")
    onnx.external_data_helper.set_external_data(hidden, "/etc/passwd")
    hidden.ClearField("raw_data")
    out = [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])]
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=hidden)], "branch", [], out)
    nodes, more = linear()
    more.append(numpy_helper.from_array(np.array(True), "yes"))
    nodes.append(helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch))

    refused(graph(nodes, more=more), "lies outside the file, at '/etc/passwd'")


def test_custom_operators_are_refused(refused):
    model = graph([helper.make_node("Magic", ["x"], ["y"], domain="evil.example")])
    model.opset_import.append(helper.make_opsetid("evil.example", 1))

    refused(model, "does not run: evil.example:Magic")


def test_operators_that_reach_outside_are_refused(refused):
    model = graph([helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    refused(model, "EPContext")


def test_two_inputs_are_refused(refused):
    more = helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", 1])

    refused(linear_graph(inputs=[more]), r"2 inputs \(x, mask\)")


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (("n", 3 * SIDE * SIDE), "2 dimensions"),
        (("n", 4, SIDE, SIDE), "4 channels"),
        (("n", 5, SIDE, 7), "not that of RGB"),
        (("n", 3, SIDE, 3), "could be NCHW or NHWC"),
        (("n", 3, SIDE, 8), "width of 8 pixels, you gave 6"),
    ],
)
def test_inputs_that_are_no_image_are_refused(refused, shape, says):
    refused(linear_graph(shape=shape), says)


def test_inputs_of_other_types_are_refused(refused):
    refused(linear_graph(dtype=TensorProto.DOUBLE), "input x is double")


def test_another_number_of_labels_is_refused(refused):
    refused(linear_graph(), "shape .1, 4.; there are 5 labels", classes=5)


def test_mean_and_std_in_other_units_are_refused(refused):
    imagenet = Preprocessing(height=SIDE, width=SIDE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

    refused(linear_graph(), "units of 0..1", preprocessing=imagenet)


@pytest.mark.parametrize("opset", [6, 99])
def test_opsets_that_the_runtime_does_not_know_are_refused(refused, opset):
    model = linear_graph()
    model.opset_import[0].version = opset

    refused(model, f"opset {opset}")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>not found</html>", id="a web page"),
        pytest.param(bytes(range(256)) * 40, id="garbage"),
        pytest.param(b"PK\x03\x04" + bytes(2000), id="an archive"),
        pytest.param(
            helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString(), id="no nodes"
        ),
    ],
)
def test_files_that_are_no_onnx_are_refused(refused, data):
    refused(data, "not ONNX|0 bytes|no graph")


def test_a_truncated_file_is_refused(refused):
    data = linear_graph().SerializeToString()

    for length in range(1, len(data), len(data) // 4):
        refused(data[:length], "damaged|no graph|claims|not valid|inputs|lacks|opset")


def test_a_tensor_that_claims_three_gigabytes_is_refused(refused):
    model = linear_graph()
    model.graph.initializer[0].dims[:] = [3 * SIDE * SIDE, 7_500_000]

    refused(model, "claims 3240000000 bytes and holds 1728")


def test_a_graph_that_asks_for_a_hundred_gigabytes_is_refused(refused):
    nodes, more = linear("scores")
    more.append(numpy_helper.from_array(np.array([25_000_000_000], np.int64), "many"))
    nodes += [
        helper.make_node("ConstantOfShape", ["many"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["scores", "sum"], ["y"]),
    ]

    refused(graph(nodes, more=more), "cannot (load|run) the graph|needs more|ended by signal")


def test_a_graph_that_never_ends_is_refused(refused):
    body = helper.make_graph(
        [
            helper.make_node("Add", ["before", "before"], ["after"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, ["n", CLASSES]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, ["n", CLASSES]),
        ],
    )
    nodes, more = linear("scores")
    more.append(numpy_helper.from_array(np.array(2**62, np.int64), "times"))
    more.append(numpy_helper.from_array(np.array(True), "yes"))
    nodes.append(helper.make_node("Loop", ["times", "yes", "scores"], ["y"], body=body))
    model = graph(nodes, more=more)

    refused(model, "processor time", limits=Limits(cpu_s=3))
    refused(model, "longer than 3 s", limits=Limits(wall_s=3))


def test_outputs_that_change_from_run_to_run_are_refused(refused):
    nodes, more = linear("scores")
    nodes += [
        helper.make_node("RandomNormalLike", ["scores"], ["noise"]),
        helper.make_node("Add", ["scores", "noise"], ["y"]),
    ]

    refused(graph(nodes, more=more), "different outputs")


def test_outputs_that_are_not_finite_are_refused(refused):
    nodes, more = linear("scores")

    refused(graph([*nodes, helper.make_node("Log", ["scores"], ["y"])], more=more), "not finite")
