"""Small real ONNX classifiers whose right answer anybody can see: they name the colour of a picture.

`logits[k]` grows as the picture's mean colour nears the k-th primary. `work` makes a run slow by
multiplying matrices, so that queues form and runs can be caught in the middle.
"""

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.access.principal import SYSTEM
from app.registry.service import PublishedVersion, Registry
from models.manifest import (
    MODEL_FILE,
    Certificate,
    Level,
    Manifest,
    MaskFacts,
    Preprocessing,
    Task,
    TensorFacts,
    sha256_hex,
)

SIDE = 32
COLOURS = ("red", "green", "blue")
RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def picture(colour: str, *, size: int = 48, format_: str = "PNG", noise: int = 0) -> bytes:
    """A picture of one colour; `noise` seeds a few other pixels so that bytes differ between pictures."""
    pixels = np.empty((size, size, 3), np.uint8)
    pixels[:] = RGB[colour]
    if noise:
        rng = np.random.default_rng(noise)
        pixels[:2, :2] = rng.integers(0, 256, (2, 2, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format_)
    return out.getvalue()


def write_colour_model(path: Path, *, work: int = 0, gain: float = 8.0) -> None:
    """Write the graph: mean over pixels, scaled to 0..gain, plus `work` rounds of work that add zero."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["colour"]),
    ]
    weights = [numpy_helper.from_array(np.float32([gain / 255]), "gain")]
    last = "colour"
    if work:
        side = 512
        rng = np.random.default_rng(0)
        weights += [
            numpy_helper.from_array(rng.normal(size=(3, side * side)).astype(np.float32) * 0.01, "spread"),
            numpy_helper.from_array(np.int64([-1, side, side]), "square"),
            numpy_helper.from_array(np.float32([0.0]), "nothing"),
            numpy_helper.from_array(np.float32([1e-3]), "small"),
        ]
        nodes += [
            helper.make_node("MatMul", ["colour", "spread"], ["flat"]),
            helper.make_node("Reshape", ["flat", "square"], ["work0"]),
        ]
        for index in range(work):
            nodes += [
                helper.make_node("MatMul", [f"work{index}", f"work{index}"], [f"product{index}"]),
                helper.make_node("Mul", [f"product{index}", "small"], [f"scaled{index}"]),
                helper.make_node("Tanh", [f"scaled{index}"], [f"work{index + 1}"]),
            ]
        nodes += [
            helper.make_node("ReduceMean", [f"work{work}"], ["total"], axes=[1, 2], keepdims=0),
            helper.make_node("Unsqueeze", ["total", "last_axis"], ["column"]),
            helper.make_node("Mul", ["column", "nothing"], ["zero"]),
            helper.make_node("Add", ["colour", "zero"], ["worked"]),
        ]
        weights.append(numpy_helper.from_array(np.int64([1]), "last_axis"))
        last = "worked"
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def publish_colours(
    registry: Registry,
    folder: Path,
    *,
    name: str,
    labels: tuple[str, ...] = COLOURS,
    work: int = 0,
    gain: float = 8.0,
) -> PublishedVersion:
    """Publish a colour classifier as the next version of `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    write_colour_model(path, work=work, gain=gain)
    manifest = Manifest(
        task=Task.CLASSIFICATION,
        inputs=(TensorFacts(name="image", dtype="uint8", shape=(-1, SIDE, SIDE, 3)),),
        outputs=(TensorFacts(name="logits", dtype="float32", shape=(-1, 3)),),
        preprocessing=Preprocessing(height=SIDE, width=SIDE, crop=1.0),
        labels=labels,
    )
    return _publish(registry, name, manifest, path)


def write_colour_segmenter(path: Path) -> None:
    """Write the graph: of each pixel three logits, which grow as its colour nears each primary."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Sub", ["planes", "middle"], ["centred"]),
            helper.make_node("Mul", ["centred", "gain"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [
            numpy_helper.from_array(np.float32([127.5]), "middle"),
            numpy_helper.from_array(np.float32([1 / 16]), "gain"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def publish_colour_segmenter(
    registry: Registry, folder: Path, *, name: str, activation: str = "softmax", **fit: object
) -> PublishedVersion:
    """Publish a segmenter that finds red, green and blue, as the next version of `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    write_colour_segmenter(path)
    manifest = Manifest(
        task=Task.SEGMENTATION,
        inputs=(TensorFacts(name="image", dtype="uint8", shape=(-1, SIDE, SIDE, 3)),),
        outputs=(TensorFacts(name="logits", dtype="float32", shape=(-1, 3, SIDE, SIDE)),),
        preprocessing=Preprocessing(
            height=SIDE, width=SIDE, **{"fit": "squash", "interpolation": "bilinear", **fit}
        ),
        labels=COLOURS,
        masks=MaskFacts(activation=activation),
    )
    return _publish(registry, name, manifest, path)


def _publish(registry: Registry, name: str, manifest: Manifest, path: Path) -> PublishedVersion:
    data = path.read_bytes()
    certificate = Certificate(
        level=Level.IMPORTED,
        model_sha256=sha256_hex(data),
        manifest_sha256=sha256_hex(manifest.to_json()),
        size_bytes=len(data),
        runtime="onnxruntime",
        created_at="2026-01-01T00:00:00Z",
    )
    return registry.publish(
        SYSTEM, name=name, manifest=manifest, certificate=certificate, artifacts={MODEL_FILE: path}
    )
