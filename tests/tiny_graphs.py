"""Small ONNX classifiers as strangers might export them, on images of 6 x 6."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

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
