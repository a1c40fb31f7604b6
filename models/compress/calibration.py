"""What flows through a graph while it is shown pictures: of each tensor the smallest and the largest value,
of what enters a layer with weights the mean of each channel.

All of it is reduced inside the graph, right after a tensor is made, so that no tensor is held for longer than
the graph itself needs it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.compress.layers import layers_of
from models.export.served import ProbedSession

Ranges = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""(smallest, largest) by tensor."""
Means = Mapping[str, NDArray[np.float64]]
"""Of each channel, by tensor."""
_LOW, _HIGH, _MEAN = "/low", "/high", "/mean"
_AXES_ARE_INPUTS = 18
"""From this opset on."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What calibration has seen."""

    ranges: Ranges
    means: Means


class Calibration:
    """Watches a graph, over all pictures that it is shown."""

    def __init__(self, graph: Path, operators: Sequence[str]) -> None:
        """`graph`: simplified. `operators`: those whose inputs and outputs are watched."""
        model = onnx.load(graph)
        _add_watchers(model, operators)
        self._session = ProbedSession(model.SerializeToString())
        self._low: dict[str, NDArray[np.float32]] = {}
        self._high: dict[str, NDArray[np.float32]] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._shown = 0

    def show(self, images: NDArray[np.uint8]) -> Self:
        """(n, H, W, 3), as the graph is served them. Raises ServedGraphError."""
        for name, value in self._session.run(images).items():
            tensor, _, kind = name.rpartition("/")
            if f"/{kind}" == _LOW:
                self._low[tensor] = np.minimum(value, self._low.get(tensor, value))
            elif f"/{kind}" == _HIGH:
                self._high[tensor] = np.maximum(value, self._high.get(tensor, value))
            else:
                self._sums[tensor] = self._sums.get(tensor, 0.0) + value.astype(np.float64) * len(images)
        self._shown += len(images)
        return self

    def seen(self) -> Calibrated:
        """All of it."""
        ranges = {tensor: (low, self._high[tensor]) for tensor, low in self._low.items()}
        return Calibrated(
            ranges=ranges, means={tensor: total / self._shown for tensor, total in self._sums.items()}
        )


def can_shift(node: NodeProto) -> bool:
    """It has a bias, which can take up what is known of the mean of its input."""
    return node.op_type in ("Conv", "Gemm") and len(node.input) == 3


def _add_watchers(model: ModelProto, operators: Sequence[str]) -> None:
    ranged, averaged = _ranged(model, operators), _averaged(model)
    has_axes_inputs = next(one.version for one in model.opset_import if not one.domain) >= _AXES_ARE_INPUTS
    nodes = list(model.graph.node)
    del model.graph.node[:], model.graph.output[:]
    for node in nodes:
        watchers = []
        for tensor in node.output:
            if tensor in ranged:
                watchers += [_reduce("ReduceMin", tensor, _LOW), _reduce("ReduceMax", tensor, _HIGH)]
            if tensor in averaged:
                axes = [0, *range(2, averaged[tensor])]
                watchers.append(_reduce("ReduceMean", tensor, _MEAN, None if has_axes_inputs else axes))
                if has_axes_inputs:
                    watchers[-1].input.append(f"{tensor}/axes")
                    constant = numpy_helper.from_array(np.array(axes, np.int64), f"{tensor}/axes")
                    model.graph.initializer.append(constant)
        model.graph.node.extend([node, *watchers])
        model.graph.output.extend(onnx.ValueInfoProto(name=watcher.output[0]) for watcher in watchers)


def _reduce(operator: str, tensor: str, kind: str, axes: list[int] | None = None) -> NodeProto:
    node = helper.make_node(operator, [tensor], [f"{tensor}{kind}"], keepdims=0)
    if axes is not None:
        node.attribute.append(helper.make_attribute("axes", axes))
    return node


def _ranged(model: ModelProto, operators: Sequence[str]) -> set[str]:
    """Float tensors that these operators take or give."""
    known = {value.name: value.type.tensor_type.elem_type for value in _values(model)}
    touched = (
        name for node in model.graph.node if node.op_type in operators for name in (*node.input, *node.output)
    )
    return {name for name in touched if known.get(name) == TensorProto.FLOAT}


def _averaged(model: ModelProto) -> dict[str, int]:
    """What enters layers whose biases can shift, and how many dimensions it has."""
    layers = set(layers_of(model))
    dimensions = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return {
        node.input[0]: dimensions[node.input[1]]
        for node in model.graph.node
        if node.name in layers and can_shift(node)
    }


def _values(model: ModelProto) -> Iterator[onnx.ValueInfoProto]:
    yield from model.graph.value_info
    yield from model.graph.output
