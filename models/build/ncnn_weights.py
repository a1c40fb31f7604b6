"""Weights out of ncnn's `.bin` files, whose networks are built here: convolution by convolution.

The file is a bare sequence without names or shapes: for each convolution, in the order in which they run, a
tag, its weights (float16 or float32, outputs first, padded to four bytes) and its float32 bias. The order of
the network built here must be the file's; the comparison with what ncnn itself computes proves it.
"""

import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.build.onnx_weights import Convolution, in_order
from models.build.timm_ import WeightsMismatch

_FLOAT16, _FLOAT32 = 0x01306B47, 0


def load_ncnn(network: nn.Module, path: Path, *, example: torch.Tensor) -> None:
    """Load weight and bias of each convolution; `example` is an input of the network.

    Raises:
        WeightsMismatch: the file is shorter or longer than the network needs, or stored in another way.

    """
    file = _File(path.read_bytes())
    with torch.no_grad():
        for layer in in_order(network, example):
            layer.weight.copy_(_arranged(file.weights(layer.weight.numel()), layer))
            if layer.bias is None:
                raise WeightsMismatch("A convolution of the network has no bias; the file has one for each.")
            layer.bias.copy_(torch.from_numpy(file.floats(layer.bias.numel())))
    if file.left:
        raise WeightsMismatch(f"The file has {file.left} bytes more than the network takes.")


def _arranged(weights: NDArray[np.float32], layer: Convolution) -> torch.Tensor:
    """As torch holds them: of a transposed convolution inputs come first."""
    shape = layer.weight.shape
    if isinstance(layer, nn.ConvTranspose2d):
        return torch.from_numpy(weights).view(shape[1], shape[0], *shape[2:]).transpose(0, 1)
    return torch.from_numpy(weights).view(shape)


class _File:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def weights(self, count: int) -> NDArray[np.float32]:
        (tag,) = struct.unpack("<I", self._take(4))
        if tag == _FLOAT32:
            return self.floats(count)
        if tag != _FLOAT16:
            raise WeightsMismatch(f"Weights are stored in a way that is not known (tag {tag:#x}).")
        size = 2 * count
        return np.frombuffer(self._take(size + -size % 4), np.float16, count).astype(np.float32)

    def floats(self, count: int) -> NDArray[np.float32]:
        return np.frombuffer(self._take(4 * count), np.float32).copy()

    def _take(self, size: int) -> bytes:
        if size > self.left:
            raise WeightsMismatch("The file ends before the network has all its weights.")
        self._at += size
        return self._data[self._at - size : self._at]
