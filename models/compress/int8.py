"""Graphs in 8 bits, by ONNX Runtime's own quantisers.

    x ≈ scale · (q - zero),   q of 8 bits

Static: each tensor between layers has one scale, from the smallest and largest value that it took on
calibration pictures; each output channel of a layer's weights has its own (QDQ, Jacob et al. 2018,
arXiv:1712.05877). Dynamic: only products with constant matrices, whose other side is scaled in each run.

Weights have 7 bits: processors without instructions for 8-bit dot products add two products of 8 bits in 16,
which overflow, so that the same graph would answer differently on another machine (ADR 8).
"""

from pathlib import Path

import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationMethod, QuantizationMode, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from models.compress.bias import correct_biases
from models.compress.calibration import Calibrated, Calibration
from models.compress.layers import NothingToCompress, layers_of, nodes_from

_IN_8_BITS = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "GlobalAveragePool",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Relu",
    "Reshape",
    "Transpose",
)
"""Operators that have a kernel for 8 bits, or only move values."""


def calibration_of(graph: Path) -> Calibration:
    """Of a simplified graph, for what may be computed in 8 bits. Raises ServedGraphError."""
    return Calibration(graph, _IN_8_BITS)


def quantize(graph: Path, target: Path, calibrated: Calibrated, *, float_layers: int = 0) -> None:
    """Write a simplified graph in 8 bits; its first `float_layers` layers, and what comes before, stay.

    Made twice: by what the first one's weights became, the biases of the second are corrected.

    Raises NothingToCompress.
    """
    model = onnx.load(graph)
    layers = layers_of(model)[float_layers:]
    if not layers:
        raise NothingToCompress("The graph has no layer with weights to compute in 8 bits.")
    names = [node.name for node in nodes_from(model, layers[0]) if node.op_type in _IN_8_BITS]
    _write(model, target, names, calibrated)
    corrected = onnx.load(graph)
    correct_biases(corrected, onnx.load(target), calibrated.means)
    _write(corrected, target, names, calibrated)


def _write(model: ModelProto, target: Path, names: list[str], calibrated: Calibrated) -> None:
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, dict(calibrated.ranges)),
        nodes_to_quantize=names,
        nodes_to_exclude=[],
        op_types_to_quantize=list(_IN_8_BITS),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(target), False)


def quantize_dynamically(graph: Path, target: Path) -> None:
    """Write a simplified graph with its constant matrices in 8 bits. Convolutions stay: their kernel for
    scales of each run is slower than float32's.

    Raises NothingToCompress.
    """
    model = onnx.load(graph)
    layers = set(layers_of(model))
    if not any(node.op_type in ("MatMul", "Gemm") for node in model.graph.node if node.name in layers):
        raise NothingToCompress("The graph multiplies by no constant matrix.")
    quantizer = ONNXQuantizer(
        model,
        per_channel=True,
        reduce_range=True,
        mode=QuantizationMode.IntegerOps,
        static=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=None,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=["MatMul"],
        extra_options={"MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(target), False)
