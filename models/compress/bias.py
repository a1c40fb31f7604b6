"""Biases that take back what rounding the weights does to a layer's mean output.

    b' = b - Σ (W_q - W) · E[x]

over all inputs of an output channel, with E[x] the mean of each input channel on calibration pictures
(Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction,
arXiv:1906.04721).
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from models.compress.calibration import Means, can_shift
from models.compress.layers import layers_of


def correct_biases(model: ModelProto, quantized: ModelProto, means: Means) -> None:
    """Change a simplified graph's biases by what became of its weights in `quantized`. Layers that have no
    bias or share it, or whose weights stayed, keep what they have.
    """
    made = {tensor.name: tensor for tensor in quantized.graph.initializer}
    given = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = set(layers_of(model))
    uses = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        if node.name not in layers or not can_shift(node) or node.input[0] not in means:
            continue
        weight, bias = node.input[1], node.input[2]
        if f"{weight}_quantized" not in made or bias not in given or uses[bias] > 1:
            continue
        before = numpy_helper.to_array(given[weight])
        error = _dequantized(made, weight, node, before.ndim) - before
        shift = _shift(node, error, means[node.input[0]])
        values = numpy_helper.to_array(given[bias]) - shift.astype(np.float32)
        given[bias].CopyFrom(numpy_helper.from_array(values, bias))


def _dequantized(
    made: Mapping[str, onnx.TensorProto], weight: str, node: NodeProto, ndim: int
) -> NDArray[np.float32]:
    whole = numpy_helper.to_array(made[f"{weight}_quantized"]).astype(np.float32)
    scale = numpy_helper.to_array(made[f"{weight}_scale"])
    zero = numpy_helper.to_array(made[f"{weight}_zero_point"]).astype(np.float32)
    axis = _output_axis(node)
    shape = [-1 if dimension == axis else 1 for dimension in range(ndim)]
    values: NDArray[np.float32] = (whole - zero.reshape(shape)) * scale.reshape(shape)
    return values


def _output_axis(node: NodeProto) -> int:
    if node.op_type == "Gemm":
        return 0 if _attribute(node, "transB") else 1
    return 0


def _shift(node: NodeProto, error: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """(outputs,): Σ error · E[x]."""
    if node.op_type == "Gemm":
        return np.asarray((error if _attribute(node, "transB") else error.T) @ mean, np.float64)
    groups = _attribute(node, "group") or 1
    by_group = error.reshape(groups, error.shape[0] // groups, error.shape[1], -1).sum(axis=-1)
    shift: NDArray[np.float64] = np.einsum("goi,gi->go", by_group, mean.reshape(groups, -1)).ravel()
    return shift


def _attribute(node: NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)
