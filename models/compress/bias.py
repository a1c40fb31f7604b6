"""Biases that take back what rounding the weights does to a layer's mean output.

    b' = b - Σ (W_q - W) · E[x]

over all inputs of an output channel, with E[x] the mean of each input channel on calibration pictures
(Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction,
arXiv:1906.04721).
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from models.compress.layers import layers_of
from models.export.served import ProbedSession

Means = Mapping[str, NDArray[np.float64]]
"""Of each input channel, by the name of the tensor."""


def correct_biases(model: ModelProto, quantized: ModelProto, means: Means) -> None:
    """Change a simplified graph's biases by what became of its weights in `quantized`. Layers that have no
    bias or share it, or whose weights stayed, keep what they have.
    """
    made = {tensor.name: tensor for tensor in quantized.graph.initializer}
    given = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = set(layers_of(model))
    uses = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        if node.name not in layers or not _can_shift(node) or node.input[0] not in means:
            continue
        weight, bias = node.input[1], node.input[2]
        if f"{weight}_quantized" not in made or bias not in given or uses[bias] > 1:
            continue
        before = numpy_helper.to_array(given[weight])
        error = _dequantized(made, weight, node, before.ndim) - before
        shift = _shift(node, error, means[node.input[0]])
        values = numpy_helper.to_array(given[bias]) - shift.astype(np.float32)
        given[bias].CopyFrom(numpy_helper.from_array(values, bias))


class ChannelMeans:
    """The mean of each input channel of each layer, over all pictures that were shown."""

    def __init__(self, graph: Path) -> None:
        """`graph`: simplified."""
        model = onnx.load(graph)
        layers = set(layers_of(model))
        wanted = {node.input[0] for node in model.graph.node if node.name in layers and _can_shift(node)}
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted))
        self._session = ProbedSession(model.SerializeToString()) if wanted else None
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._shown = 0

    def show(self, images: NDArray[np.uint8]) -> None:
        """(n, H, W, 3), as the graph is served them."""
        if self._session is None:
            return
        for name, values in self._session.run(images).items():
            means = values.mean(axis=(0, *range(2, values.ndim)), dtype=np.float64)
            self._sums[name] = self._sums.get(name, 0.0) + means * len(images)
        self._shown += len(images)

    def means(self) -> Means:
        """By tensor."""
        return {name: total / self._shown for name, total in self._sums.items()}


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


def _can_shift(node: NodeProto) -> bool:
    return node.op_type in ("Conv", "Gemm") and len(node.input) == 3


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
