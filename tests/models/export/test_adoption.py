"""Bring your own ONNX: each graph that is taken answers its own numbers; every other is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.export.adopt import Adopted, Limits, Wishes, adopt
from models.export.inspect_onnx import Refused
from models.export.served import ServedSession
from models.manifest import Preprocessing

SIDE, CLASSES = 6, 4
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
RANDOM = np.random.default_rng(7)
WEIGHT = RANDOM.normal(size=(3 * SIDE * SIDE, CLASSES)).astype(np.float32) / 20
GREY_WEIGHT = RANDOM.normal(size=(SIDE * SIDE, CLASSES)).astype(np.float32) / 20
IMAGES = RANDOM.integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
PLAIN = Preprocessing(height=SIDE, width=SIDE)
SCALED = Preprocessing(height=SIDE, width=SIDE, mean=MEAN, std=STD)
NCHW, NHWC = ("n", 3, SIDE, SIDE), ("n", SIDE, SIDE, 3)


def graph(nodes, *, shape=NCHW, dtype=TensorProto.FLOAT, more=(), inputs=(), classes=CLASSES):
    """A model from `x` to `y`."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "theirs",
            [helper.make_tensor_value_info("x", dtype, shape), *inputs],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], classes])],
            list(more),
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def linear(last="y", *, weight=WEIGHT, name="image"):
    """Flatten and multiply; the weight has a name that the served form wants for itself."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", name], [last]),
    ]
    return nodes, [numpy_helper.from_array(weight, name)]


def linear_graph(**options):
    nodes, more = linear()
    return graph(nodes, more=more, **options)


def normalised(images):
    return (images.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)


def nchw_logits(images):
    return normalised(images).transpose(0, 3, 1, 2).reshape(len(images), -1) @ WEIGHT


@pytest.fixture
def adopted(tmp_path):
    """Adopts a model; gives the facts and a session on the served graph."""

    def run(model, preprocessing=SCALED, *, classes=CLASSES, limits=None, **wishes):
        source, target = tmp_path / "theirs", tmp_path / "served.onnx"
        source.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        facts = adopt(
            source, target, Wishes(preprocessing=preprocessing, classes=classes, **wishes), limits=limits
        )
        return facts, ServedSession(target)

    return run


@pytest.fixture
def refused(adopted, tmp_path):
    """Adopts a model that must be refused, with a hint and without a trace."""

    def run(model, says, **options):
        with pytest.raises(Refused, match=says) as caught:
            adopted(model, **options)
        assert caught.value.hint
        assert not (tmp_path / "served.onnx").exists()

    return run


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


# -- refusals ------------------------------------------------------------------------------------------


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
