"""Graphs in 8 bits: means are corrected, and what is computed from shapes survives."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.compress.fp16 import to_float16
from models.compress.int8 import calibration_of, quantize
from models.compress.layers import layers_of, simplified
from models.compress.pace import gain
from models.export.served import ProbedSession, ServedSession
from models.manifest import Pace
from tests.colour_models import save_graph
from tests.compress_world import SIDE, write_convolutions

IMAGES = np.random.default_rng(1).integers(0, 256, (24, SIDE, SIDE, 3), np.uint8)


def write_shape_arithmetic(path):
    """A grouped convolution whose padding is computed from the size of its input, as some exports do."""
    weight = np.random.default_rng(2).normal(size=(6, 1, 3, 3)).astype(np.float32)
    constants = {
        "weight": weight,
        "bias": np.ones(6, np.float32),
        "matrix": np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32),
        "zeros": np.zeros(4, np.float32),
        "side": np.int64([2]),
        "eight": np.float32([8.0]),
        "none": np.int64([0, 0]),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "side"], ["height"]),
        helper.make_node("Cast", ["height"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["as_float", "eight"], ["share"]),  # 16 / 8: two pixels
        helper.make_node("Cast", ["share"], ["pad"], to=TensorProto.INT64),
        helper.make_node("Concat", ["none", "pad", "pad", "none", "pad", "pad"], ["pads"], axis=0),
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("Conv", ["padded", "weight", "bias"], ["y"], group=3),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("GlobalAveragePool", ["z"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "zeros"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pads",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    save_graph(graph, path)


@pytest.fixture(params=[write_convolutions, write_shape_arithmetic])
def graph(request, tmp_path):
    request.param(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_corrected_biases_bring_the_mean_of_the_outputs_nearer(graph, tmp_path):
    expected = ServedSession(graph).run(IMAGES).mean(axis=0)
    simple = simplified(graph, tmp_path)
    seen = calibration_of(simple).show(IMAGES).seen()
    off = {}
    for name, calibrated in (("corrected", seen), ("plain", replace(seen, means={}))):
        quantize(simple, tmp_path / name, calibrated)
        off[name] = np.abs(ServedSession(tmp_path / name).run(IMAGES).mean(axis=0) - expected).mean()
    assert 0 < off["corrected"] < off["plain"]


@pytest.mark.parametrize("opset", [17, 18])
def test_calibration_sees_what_flows_through_the_graph_over_all_pictures(tmp_path, opset):
    write_convolutions(tmp_path / "model.onnx")
    simple = simplified(tmp_path / "model.onnx", tmp_path)
    model = onnx.load(simple)
    for entry in model.opset_import:
        entry.version = opset
    onnx.save(model, simple)
    seen = calibration_of(simple).show(IMAGES[:20]).show(IMAGES[20:]).seen()
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in seen.ranges)
    flows = ProbedSession(model.SerializeToString()).run(IMAGES)
    assert len(flows) == len(seen.ranges) == 8
    for name, (low, high) in seen.ranges.items():
        assert (low, high) == (pytest.approx(flows[name].min()), pytest.approx(flows[name].max()))
    assert len(seen.means) == 3
    for name, mean in seen.means.items():
        expected = flows[name].mean(axis=(0, *range(2, flows[name].ndim)))
        np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)


def test_constants_that_are_equal_belong_to_one_node_each(tmp_path):
    write_convolutions(tmp_path / "model.onnx", bias=0.0)  # the mean of the norm is zero as well
    model = onnx.load(simplified(tmp_path / "model.onnx", tmp_path))
    vectors = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) <= 1}
    uses = [name for node in model.graph.node for name in node.input if name in vectors]
    assert len(uses) == len(set(uses)) > 4
    to_float16(tmp_path / "simplified.onnx", tmp_path / "fp16.onnx")
    half, whole = (ServedSession(tmp_path / name).run(IMAGES) for name in ("fp16.onnx", "model.onnx"))
    np.testing.assert_allclose(half, whole, atol=0.02)


def test_what_is_computed_from_shapes_survives(tmp_path):
    write_shape_arithmetic(tmp_path / "model.onnx")
    expected = ServedSession(tmp_path / "model.onnx").run(IMAGES)
    simple = simplified(tmp_path / "model.onnx", tmp_path)
    assert ServedSession(simple).run(IMAGES) == pytest.approx(expected, rel=1e-4, abs=1e-3)
    model = onnx.load(simple)
    assert len(layers_of(model)) == 2
    assert not {"Div", "Gather", "Concat"} & {node.op_type for node in model.graph.node}
    to_float16(simple, tmp_path / "half.onnx")
    quantize(simple, tmp_path / "int8.onnx", calibration_of(simple).show(IMAGES).seen())
    largest = float(np.abs(expected).max())
    for name in ("half.onnx", "int8.onnx"):
        for batch in (1, 24):
            got = ServedSession(tmp_path / name).run(IMAGES[:batch])
            assert got == pytest.approx(expected[:batch], abs=0.05 * largest)


def test_the_gain_is_that_of_each_graph_at_its_best():
    paces = [
        Pace(threads=1, batch=1, before_ms=10, after_ms=8),
        Pace(threads=1, batch=8, before_ms=80, after_ms=40),  # two lanes of these: 200 and 400 a second
        Pace(threads=2, batch=1, before_ms=4, after_ms=6),  # 250 and 167 a second
    ]
    assert gain(paces) == pytest.approx(400 / 250)
