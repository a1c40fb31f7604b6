"""Small real ONNX classifiers whose right answer anybody can see: they name the colour of a picture.

`logits[k]` grows as the picture's mean colour nears the k-th primary. `work` makes a run slow by
multiplying matrices, so that queues form and runs can be caught in the middle.
"""

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
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
    TileFacts,
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


def write_colour_model(
    path: Path, *, work: int = 0, work_side: int = 512, gain: float = 8.0, swell_bytes: int = 0
) -> None:
    """Write the graph: mean over pixels, scaled to 0..gain, and `work` products of matrices that add zero.
    On its way an input takes `swell_bytes` of memory."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["colour"]),
    ]
    weights = [numpy_helper.from_array(np.float32([gain / 255]), "gain")]
    last = "colour"
    if work:
        more_nodes, more_weights = _work(work, work_side)
        nodes, weights, last = nodes + more_nodes, weights + more_weights, "worked"
    if swell_bytes:
        weights += [
            numpy_helper.from_array(np.int64([2]), "swelling_axis"),
            numpy_helper.from_array(np.int64([1, 3, swell_bytes // 12]), "swollen_shape"),
        ]
        nodes += [
            helper.make_node("Unsqueeze", [last, "swelling_axis"], ["slim"]),
            helper.make_node("Expand", ["slim", "swollen_shape"], ["swollen"]),
            helper.make_node("ReduceMax", ["swollen"], ["slimmed"], axes=[2], keepdims=0),
        ]
        last = "slimmed"
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        weights,
    )
    save_graph(graph, path)


def _work(times: int, side: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """Products of matrices on the way from `colour` to `worked`, which add zero. Values stay near one: where
    they shrink to subnormals, a product takes a hundred times as long."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(3, side * side)).astype(np.float32) * 0.01, "spread"),
        numpy_helper.from_array(np.int64([-1, side, side]), "square"),
        numpy_helper.from_array(np.float32([0.0]), "nothing"),
    ]
    nodes = [
        helper.make_node("MatMul", ["colour", "spread"], ["flat"]),
        helper.make_node("Reshape", ["flat", "square"], ["work0"]),
    ]
    for index in range(times):
        nodes += [
            helper.make_node("MatMul", [f"work{index}", f"work{index}"], [f"product{index}"]),
            helper.make_node("Tanh", [f"product{index}"], [f"work{index + 1}"]),
        ]
    nodes += [
        helper.make_node("ReduceMean", [f"work{times}"], ["total"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["total", "last_axis"], ["column"]),
        helper.make_node("Mul", ["column", "nothing"], ["zero"]),
        helper.make_node("Add", ["colour", "zero"], ["worked"]),
    ]
    weights.append(numpy_helper.from_array(np.int64([1]), "last_axis"))
    return nodes, weights


def save_graph(graph: GraphProto, path: Path) -> None:
    """Write a graph as exports are written, checked."""
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
    work_side: int = 512,
    gain: float = 8.0,
    swell_bytes: int = 0,
) -> PublishedVersion:
    """Publish a colour classifier as the next version of `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    write_colour_model(path, work=work, work_side=work_side, gain=gain, swell_bytes=swell_bytes)
    return publish_graph(registry, name, _colour_manifest(labels, "logits"), path)


def _colour_manifest(labels: tuple[str, ...], output: str) -> Manifest:
    return Manifest(
        task=Task.CLASSIFICATION,
        inputs=(TensorFacts(name="image", dtype="uint8", shape=(-1, SIDE, SIDE, 3)),),
        outputs=(TensorFacts(name=output, dtype="float32", shape=(-1, 3)),),
        preprocessing=Preprocessing(height=SIDE, width=SIDE, crop=1.0),
        labels=labels,
    )


def publish_glutton(registry: Registry, folder: Path, *, name: str, above: int = 200) -> PublishedVersion:
    """Publish a colour classifier that wants 4 GiB for a picture whose mean of red is above that."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["logits"], axes=[1, 2], keepdims=0),
        helper.make_node("Gather", ["logits", "red"], ["reds"], axis=1),
        helper.make_node("ReduceMax", ["reds"], ["reddest"], keepdims=1),
        helper.make_node("Greater", ["reddest", "above"], ["is_red"]),
        helper.make_node("Cast", ["is_red"], ["times"], to=TensorProto.INT64),
        helper.make_node("Mul", ["times", "many"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["none"], keepdims=0),
        helper.make_node("Add", ["logits", "none"], ["fed"]),
    ]
    graph = helper.make_graph(
        nodes,
        "glutton",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("fed", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.int64(0), "red"),
            numpy_helper.from_array(np.float32([above]), "above"),
            numpy_helper.from_array(np.int64([2**30]), "many"),
        ],
    )
    save_graph(graph, path)
    return publish_graph(registry, name, _colour_manifest(COLOURS, "fed"), path)


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
    save_graph(graph, path)


def write_any_size_segmenter(path: Path) -> None:
    """The same graph for windows of any size."""
    write_colour_segmenter(path)
    model = onnx.load(path)
    for value, axes in ((model.graph.input[0], (1, 2)), (model.graph.output[0], (2, 3))):
        for axis, name in zip(axes, ("h", "w"), strict=True):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.checker.check_model(model)
    onnx.save(model, path)


def publish_tiled_segmenter(registry: Registry, folder: Path, *, name: str) -> PublishedVersion:
    """Publish a segmenter that takes pictures of any size, in windows."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    write_any_size_segmenter(path)
    tiles = TileFacts(scale=1, side=32, context=4, overlap=4)
    manifest = Manifest(
        task=Task.SEGMENTATION,
        inputs=(TensorFacts(name="image", dtype="uint8", shape=(-1, -1, -1, 3)),),
        outputs=(TensorFacts(name="logits", dtype="float32", shape=(-1, 3, -1, -1)),),
        preprocessing=tiles.preprocessing,
        labels=COLOURS,
        masks=MaskFacts(activation="softmax"),
        tiles=tiles,
    )
    return publish_graph(registry, name, manifest, path)


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
    return publish_graph(registry, name, manifest, path)


ENLARGER_MARGIN = 2


def write_enlarger(path: Path, *, scale: int = 2, work: int = 0) -> None:
    """Write the graph: each pixel becomes the mean of the 5 x 5 around it, `scale` x `scale` times.

    Like waifu2x's it pads nothing, and its windows may have any size. `work` convolutions more that change
    nothing make it slow.
    """
    side = 2 * ENLARGER_MARGIN + 1
    blur = np.zeros((3, 3, side, side), np.float32)
    for channel in range(3):
        blur[channel, channel] = 1 / side**2
    keep = np.zeros((3, 3, 5, 5), np.float32)
    keep[range(3), range(3), 2, 2] = 1
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["levels", "white"], ["shares"]),
        helper.make_node("Conv", ["shares", "blur"], ["work0"]),
        *(
            helper.make_node("Conv", [f"work{index}", "keep"], [f"work{index + 1}"], pads=[2] * 4)
            for index in range(work)
        ),
        helper.make_node("Resize", [f"work{work}", "", "scales"], ["pixels"], mode="nearest"),
    ]
    graph = helper.make_graph(
        nodes,
        "enlarger",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, "rows", "columns"])],
        [
            numpy_helper.from_array(np.float32(255), "white"),
            numpy_helper.from_array(blur, "blur"),
            numpy_helper.from_array(keep, "keep"),
            numpy_helper.from_array(np.float32([1, 1, scale, scale]), "scales"),
        ],
    )
    save_graph(graph, path)


def publish_enlarger(
    registry: Registry, folder: Path, *, name: str, scale: int = 2, side: int = 32, work: int = 0
) -> PublishedVersion:
    """Publish a network that blurs and enlarges, as the next version of `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    write_enlarger(path, scale=scale, work=work)
    tiles = TileFacts(scale=scale, side=side, margin=ENLARGER_MARGIN)
    manifest = Manifest(
        task=Task.SUPER_RESOLUTION,
        inputs=(TensorFacts(name="image", dtype="uint8", shape=(-1, -1, -1, 3)),),
        outputs=(TensorFacts(name="pixels", dtype="float32", shape=(-1, 3, -1, -1)),),
        preprocessing=tiles.preprocessing,
        labels=(),
        tiles=tiles,
    )
    return publish_graph(registry, name, manifest, path)


def enlarged(pixels: np.ndarray, *, scale: int = 2) -> np.ndarray:
    """What the enlarger makes of a whole picture (h, w, 3), computed by NumPy."""
    side = 2 * ENLARGER_MARGIN + 1
    around = np.pad(pixels.astype(np.float64), ((ENLARGER_MARGIN,) * 2,) * 2 + ((0, 0),), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, (side, side), axis=(0, 1))
    return np.rint(windows.mean(axis=(3, 4))).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)


def publish_graph(registry: Registry, name: str, manifest: Manifest, path: Path) -> PublishedVersion:
    """Publish a graph and its manifest, which nobody has held against anything."""
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
