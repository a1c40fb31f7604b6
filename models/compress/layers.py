"""Which nodes of a served graph may be computed in fewer bits.

    image ─► Transpose, Cast, normalisation ─► layer 1 ─► … ─► layer n ─► logits
             stays as it is                    these, and what lies between them

What is computed from shapes alone, such as the padding of a network that pads by its input's size, looks
like arithmetic on pixels to whoever makes the bits fewer, and would be ruined. So it is computed beforehand
where it is the same for one picture and for two, and only nodes that a pixel reaches count.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from models.export.served import ProbedSession, simplify

_OURS = "athanor/"
_WITH_WEIGHTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_OF_SHAPES = frozenset({"Shape", "Size"})


class NothingToCompress(ValueError):
    """The graph has no layer with weights that the precision is about."""


def simplified(source: Path, folder: Path, sizes: Collection[tuple[int, int]] = ()) -> Path:
    """The graph with constants computed and norms folded into the layers before them; its nodes have names
    of their own. What normalises pixels stays: nothing comes before it that could take it up.

    `sizes`: of a graph that takes inputs of any size, some (height, width) that it is served.

    Raises ServedGraphError.
    """
    path = folder / "simplified.onnx"
    simplify(source, path)
    model = onnx.load(path)
    _compute_from_shapes(model, sizes)
    onnx.save(model, path)
    simplify(path, path)
    model = onnx.load(path)
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    for position, node in enumerate(model.graph.node):
        if not node.name.startswith(_OURS):
            node.name = f"{position}/{node.op_type}"
    _give_each_its_own(model)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def layers_of(model: ModelProto) -> list[str]:
    """Names of the layers with weights that pixels go through, from the first on."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in _reached(model)
        if node.op_type in _WITH_WEIGHTS
        and not constants.isdisjoint(node.input[1:2])
        and not node.name.startswith(_OURS)
    ]


def nodes_from(model: ModelProto, layer: str) -> list[NodeProto]:
    """The nodes that pixels reach, from this layer on."""
    nodes = _reached(model)
    return nodes[[node.name for node in nodes].index(layer) :]


def nodes_before(model: ModelProto, layer: str) -> list[str]:
    """Names of the nodes that come before this layer, or that pixels do not reach."""
    later = {node.name for node in nodes_from(model, layer)}
    return [node.name for node in model.graph.node if node.name not in later]


def _give_each_its_own(model: ModelProto) -> None:
    """The runtime has made one constant of all that are equal: biases of zeros, for example, and the means of
    a norm. What is changed for one node must not be for another."""
    vectors = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) <= 1}
    taken: set[str] = set()
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name not in vectors:
                continue
            if name in taken:
                node.input[position] = f"{node.name}/{position}"
                own = model.graph.initializer.add()
                own.CopyFrom(vectors[name])
                own.name = node.input[position]
            taken.add(name)


def _compute_from_shapes(model: ModelProto, sizes: Collection[tuple[int, int]]) -> None:
    """What pixels do not reach becomes a constant, unless it changes with the number or size of pictures."""
    reached = {name for node in _reached(model) for name in node.output}
    free = [name for node in model.graph.node for name in node.output if name and name not in reached]
    if not free:
        return
    batch, height, width, _ = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim)
    seen = [(height, width)] if height and width else [*sizes]
    if not seen:
        return
    shapes = [(batch or 1, size) for size in seen] + [(batch or 2, seen[0])]
    probe = ModelProto.FromString(model.SerializeToString())
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in free)
    session = ProbedSession(probe.SerializeToString())
    runs = [session.run(np.zeros((number, *size, 3), np.uint8)) for number, size in shapes]
    known = {
        name: runs[0][name]
        for name in free
        if all(np.array_equal(runs[0][name], other[name]) for other in runs[1:])
    }
    kept = [node for node in model.graph.node if not set(node.output) & set(known)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in known.items())


def _reached(model: ModelProto) -> list[NodeProto]:
    reached = {value.name for value in model.graph.input}
    nodes = []
    for node in model.graph.node:
        if node.op_type not in _OF_SHAPES and not reached.isdisjoint(node.input):
            reached.update(node.output)
            nodes.append(node)
    return nodes
