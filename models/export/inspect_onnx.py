"""Reads a stranger's ONNX file: what is refused, and what the graph takes and gives.

Nothing here runs the graph. It is called in a child process with limits (`adopt.py`), because parsing and
checking are already work that a stranger's file decides about.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from models.export.served_form import MIN_OPSET, Entry, Exit, opset_of, subgraphs

MAX_OPSET = 25
"""Newest opset that the pinned ONNX Runtime knows in full."""
_MAX_BYTES = 2 * 2**30 - 1
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operators that ONNX Runtime brings itself."""
_REACHES_OUT = frozenset({"EPContext"})
"""Operators that name files or devices outside the graph."""
_SIDE_LIMIT = 4096
_INPUT_TYPES: dict[int, Literal["uint8", "float32"]] = {
    TensorProto.UINT8: "uint8",
    TensorProto.FLOAT: "float32",
}


class Refused(Exception):
    """The file cannot be taken in: what is wrong, and what to do."""

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


@dataclass(frozen=True, kw_only=True)
class Input:
    """The one image input, as the file declares it; None marks a dynamic size."""

    name: str
    dtype: Literal["uint8", "float32"]
    layout: Literal["nchw", "nhwc"]
    channels: int
    batch: int | None
    height: int | None
    width: int | None


def read_model(path: Path) -> ModelProto:
    """Parse and check a file; whatever lies outside the file is refused. Raises Refused."""
    size_bytes = path.stat().st_size
    if not 0 < size_bytes <= _MAX_BYTES:
        raise Refused(
            f"The file has {size_bytes} bytes.",
            hint="One ONNX file of at most 2 GB, weights inside, is taken.",
        )
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise Refused(
            "The file is not ONNX, or it is damaged.", hint="Export and upload it again."
        ) from error
    if not model.graph.node or model.ir_version < 1:
        raise Refused("The file holds no graph.", hint="Export and upload it again.")
    for tensor in _all_tensors(model):
        _check_tensor(tensor)
    _check_operators(model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        first = str(error).strip().splitlines()[0][:300]
        raise Refused(f"The graph is not valid ONNX: {first}", hint="Export it again.") from error
    return model


def count_parameters(model: ModelProto) -> int:
    """Number of floating-point constants in the graph's initializers."""
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type in floats)


def find_input(model: ModelProto, *, layout: str | None) -> Input:
    """The one image input. `layout` settles what a shape leaves open. Raises Refused."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise Refused(
            f"The graph has {len(inputs)} inputs ({names}); a classifier takes one image.",
            hint="Export it so that the image is the only input.",
        )
    value = inputs[0]
    kind = value.type.tensor_type.elem_type
    if kind not in _INPUT_TYPES:
        name = TensorProto.DataType.Name(kind).lower()
        raise Refused(
            f"The input {value.name} is {name}; float32 and uint8 are taken.",
            hint="Export it with a float32 input.",
        )
    dims = _dims(value)
    if dims is None or len(dims) != 4:
        shape = "an unknown shape" if dims is None else f"{len(dims)} dimensions"
        raise Refused(
            f"The input {value.name} has {shape}; an image batch has 4.", hint="Export it with [N, 3, H, W]."
        )
    found = _layout(dims, wished=layout)
    batch, *rest = dims
    channels, height, width = rest if found == "nchw" else (rest[2], rest[0], rest[1])
    return Input(
        name=value.name,
        dtype=_INPUT_TYPES[kind],
        layout=found,
        channels=channels or 3,
        batch=batch,
        height=height,
        width=width,
    )


def as_entry(found: Input, *, channels: Literal["rgb", "bgr", "grey"] | None) -> Entry:
    """What has to be put before the graph. `channels` None or `rgb` goes by the graph. Raises Refused."""
    if found.channels not in {1, 3}:
        raise Refused(
            f"The graph takes {found.channels} channels; an image has 3, or 1 when it is grey.",
            hint="Export a network for RGB or grey images.",
        )
    is_grey = found.channels == 1
    if (channels == "grey" and not is_grey) or (channels == "bgr" and is_grey):
        raise Refused(
            f"`channels` is {channels}, but the graph takes {found.channels}.", hint="Leave `channels` out."
        )
    order: Literal["rgb", "bgr", "grey"] = "grey" if is_grey else channels or "rgb"
    return Entry(name=found.name, layout=found.layout, dtype=found.dtype, channels=order)


def find_output(model: ModelProto, *, classes: int, has_maps: bool = False) -> Exit:
    """The output with one float, or one map, per label; what turns them into shares is left out.

    Of several outputs of maps the first is taken: the others are what deeper layers would have said.

    Raises Refused.
    """
    rank = 4 if has_maps else 2
    fitting = [value for value in model.graph.output if _has_rank(value, rank)]
    if len(fitting) > 1:
        axis = 1 if has_maps else -1
        fitting = [value for value in fitting if (_dims(value) or [None] * rank)[axis] in {classes, None}]
    if len(fitting) != 1 and not (has_maps and fitting):
        listed = ", ".join(f"{value.name} {_dims(value)}" for value in model.graph.output)
        shape = f"[N, {classes}, H, W]" if has_maps else f"[N, {classes}]"
        raise Refused(
            f"No single float32 output of shape {shape} was found; the graph gives: {listed}.",
            hint=f"Export it with one output: a {'map' if has_maps else 'score'} for each label.",
        )
    name = fitting[0].name
    map_size = None if has_maps else ()
    for node in model.graph.node:
        if name in node.output and node.domain in {"", "ai.onnx"}:
            axis = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"), 1)
            if node.op_type in {"Softmax", "LogSoftmax"} and axis in {1, 1 - rank}:
                activation: Literal["softmax"] | None = "softmax" if has_maps else None
                return Exit(name=node.input[0], classes=classes, map_size=map_size, activation=activation)
            if node.op_type == "Sigmoid" and has_maps:
                return Exit(name=node.input[0], classes=classes, map_size=map_size, activation="sigmoid")
    return Exit(name=name, classes=classes, map_size=map_size)


def _layout(dims: list[int | None], *, wished: str | None) -> Literal["nchw", "nhwc"]:
    first, last = dims[1], dims[3]
    could_be: list[Literal["nchw", "nhwc"]] = []
    if first in {1, 3, 4} or (first is None and last not in {1, 3, 4}):
        could_be.append("nchw")
    if last in {1, 3, 4} or (last is None and first is None and wished == "nhwc"):
        could_be.append("nhwc")
    if wished is not None:
        could_be = [layout for layout in could_be if layout == wished]
    if len(could_be) == 1:
        return could_be[0]
    what = "could be NCHW or NHWC" if could_be else f"is not {wished or 'that of RGB or grey images'}"
    raise Refused(f"The input's shape {dims} {what}.", hint="Give `layout` as the network was exported.")


def _has_rank(value: ValueInfoProto, rank: int) -> bool:
    dims = _dims(value)
    return value.type.tensor_type.elem_type == TensorProto.FLOAT and (dims is None or len(dims) == rank)


def _dims(value: ValueInfoProto) -> list[int | None] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim
    ]


def _check_operators(model: ModelProto) -> None:
    opset = opset_of(model)
    if opset is None or not MIN_OPSET <= opset <= MAX_OPSET:
        raise Refused(
            f"The graph is written in opset {opset}; {MIN_OPSET} to {MAX_OPSET} are taken.",
            hint="Export it with opset_version=17.",
        )
    local = {(function.domain, function.name) for function in model.functions}
    foreign = sorted(
        {
            f"{node.domain or 'ai.onnx'}:{node.op_type}"
            for graph in _all_graphs(model)
            for node in graph.node
            if (node.domain not in _DOMAINS and (node.domain, node.op_type) not in local)
            or node.op_type in _REACHES_OUT
        }
    )
    if foreign:
        raise Refused(
            f"The graph uses operators that Athanor does not run: {', '.join(foreign[:5])}.",
            hint="Export it with standard operators only.",
        )


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        raise Refused(
            f"The tensor {tensor.name!r} lies outside the file, at {where!r}.",
            hint="Save the model as one file (onnx.save with save_as_external_data=False).",
        )
    if any(size < 0 for size in tensor.dims) or tensor.HasField("segment"):
        raise Refused(f"The tensor {tensor.name!r} has an impossible shape.", hint="Export it again.")
    if tensor.HasField("raw_data"):
        claimed = math.prod(tensor.dims) * _bits(tensor) / 8
        if math.ceil(claimed) != len(tensor.raw_data):
            raise _hollow(tensor, f"{math.ceil(claimed)} bytes", len(tensor.raw_data))
    elif math.prod(tensor.dims) > 2 * _held(tensor):
        raise _hollow(tensor, f"{math.prod(tensor.dims)} values", _held(tensor))


def _hollow(tensor: TensorProto, claimed: str, held: int) -> Refused:
    return Refused(
        f"The tensor {tensor.name!r} claims {claimed} and holds {held}.",
        hint="The file is damaged or forged; export it again.",
    )


def _held(tensor: TensorProto) -> int:
    """Values in the typed fields; the 4-bit types keep two in one, whence the factor above."""
    fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.string_data)
    return sum(len(field) for field in (*fields, tensor.double_data, tensor.uint64_data))


def _bits(tensor: TensorProto) -> int:
    name = TensorProto.DataType.Name(tensor.data_type)
    if name in {"UINT4", "INT4", "FLOAT4E2M1"}:
        return 4
    if name in {"UINT2", "INT2"}:
        return 2
    try:
        return int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize) * 8
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(
            f"The tensor {tensor.name!r} is of unknown type {name}.", hint="Export it again."
        ) from error


def _all_graphs(model: ModelProto) -> Iterator[GraphProto]:
    waiting = [model.graph]
    for function in model.functions:
        body = GraphProto()
        body.node.extend(function.node)
        waiting.append(body)
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting.extend(subgraphs(node))


def _all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    for graph in _all_graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("sparse_tensor"):
                    yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
