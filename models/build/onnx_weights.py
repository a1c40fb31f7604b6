"""Weights out of an ONNX file whose network is built here: convolution by convolution, in the order they run.

Exporters fold norms and rename tensors, but keep the order of computation. The comparison of the two graphs'
outputs proves what order alone does not.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper
from torch import nn

from models.build.timm_ import WeightsMismatch


def load_convolutions(network: nn.Module, path: Path, *, example: torch.Tensor) -> None:
    """Load weight and bias of each convolution; `example` is an input of the network.

    Raises:
        WeightsMismatch: the file is no ONNX, or a convolution is missing, too much or of another shape.

    """
    theirs = list(_convolutions(path))
    ours = in_order(network, example)
    if len(ours) != len(theirs):
        raise WeightsMismatch(f"The network has {len(ours)} convolutions, the file {len(theirs)}.")
    with torch.no_grad():
        for position, (layer, tensors) in enumerate(zip(ours, theirs, strict=True)):
            for own, tensor in zip((layer.weight, layer.bias), tensors, strict=True):
                if own is None or own.shape != tensor.shape:
                    raise WeightsMismatch(
                        f"Convolution {position}: the network has {list(layer.weight.shape)}, "
                        f"the file {list(tensors[0].shape)}."
                    )
                own.copy_(tensor)


def _convolutions(path: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    try:
        graph = onnx.load(path, format="protobuf", load_external_data=False).graph
    except (DecodeError, ValueError) as error:
        raise WeightsMismatch("The file is not ONNX, or it is damaged.") from error
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv":
            if len(node.input) != 3 or not {*node.input[1:]} <= tensors.keys():
                raise WeightsMismatch(f"The convolution {node.name!r} has no weight or no bias in the file.")
            weight, bias = (numpy_helper.to_array(tensors[name]).copy() for name in node.input[1:])
            yield torch.from_numpy(weight), torch.from_numpy(bias)


Convolution = nn.Conv2d | nn.ConvTranspose2d


def in_order(network: nn.Module, example: torch.Tensor) -> list[Convolution]:
    """The network's convolutions in the order in which they run on `example`."""
    order: list[Convolution] = []
    layers = [layer for layer in network.modules() if isinstance(layer, Convolution)]
    handles = [layer.register_forward_pre_hook(lambda module, _: order.append(module)) for layer in layers]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return order
