"""Small convolutional classifiers of colours, and a place where they are compressed as a worker does it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from app.access.principal import SYSTEM
from app.compression.plan import plan_compression
from app.compression.spec import CompressSpec
from app.datasets.service import DatasetService
from app.db.session import Database
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.manifest import (
    MODEL_FILE,
    Manifest,
    MaskFacts,
    Preprocessing,
    Task,
    TensorFacts,
    TileFacts,
)
from tests.colour_models import COLOURS, publish_graph, save_graph
from tests.packs import publish_pack
from tests.registry_world import publish_parcel
from workers.context import JobContext
from workers.kinds.compress import run

SIDE = 16
CHANNELS = 8
TILES = TileFacts(scale=1, side=16, context=4, overlap=4)


def write_convolutions(
    path: Path,
    *,
    layers: int = 2,
    outlier_in: int | None = None,
    labels: int | None = None,
    gain: float = 8,
    size: tuple[object, object] = (SIDE, SIDE),
    bias: float = -1e-3,
) -> None:
    """Write the graph: convolutions that carry each colour on, the mean over pixels, a matrix.

    With `labels` a segmenter's: a further convolution gives that many maps, up to about `gain`, of pictures
    of `size`, which may be names.
    `outlier_in`: a convolution that has, besides, a huge weight from a channel which is always zero. Nothing
    changes in float32; in 8 bits all its other weights become nothing.
    """
    constants = {
        "one": np.ones(3, np.float32),
        "zero": np.zeros(3, np.float32),
        "mean": np.full(3, 127.5, np.float32),
        "variance": np.full(3, 127.5**2, np.float32),
        "matrix": np.eye(CHANNELS, 3, dtype=np.float32) * 8,
        "bias": np.zeros(3, np.float32),
    }
    nodes = _normalised()
    for index in range(layers):
        constants[f"weight{index}"] = _carry_on(index, has_outlier=index == outlier_in)
        constants[f"bias{index}"] = np.full(CHANNELS, bias * index, np.float32)
        nodes += [
            helper.make_node(
                "Conv", [f"x{index}", f"weight{index}", f"bias{index}"], [f"sum{index}"], pads=[1] * 4
            ),
            helper.make_node("Relu", [f"sum{index}"], [f"x{index + 1}"]),
        ]
    nodes += _maps(layers, labels, gain, constants) if labels else _logits(layers)
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", *size, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, _shape("n", labels, size))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    save_graph(graph, path)


def _normalised() -> list[NodeProto]:
    return [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node(
            "BatchNormalization", ["levels", "one", "zero", "mean", "variance"], ["x0"], epsilon=0.0
        ),
    ]


def _shape(batch: object, labels: int | None, size: tuple[object, object]) -> list[object]:
    return [batch, labels, *size] if labels else [batch, 3]


def _logits(layers: int) -> list[NodeProto]:
    return [
        helper.make_node("GlobalAveragePool", [f"x{layers}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"]),
    ]


def _maps(layers: int, labels: int, gain: float, constants: dict[str, np.ndarray]) -> list[NodeProto]:
    """How much of its colour there is in each pixel; of one label, how much more red than anything else."""
    weight = np.eye(labels, CHANNELS, dtype=np.float32) * np.float32(gain)
    if labels == 1:
        weight[0, 1:3] = -gain
    constants["to_maps"] = weight[:, :, None, None]
    return [helper.make_node("Conv", [f"x{layers}", "to_maps"], ["logits"])]


def _carry_on(index: int, *, has_outlier: bool) -> np.ndarray:
    """The weight of a convolution."""
    random = np.random.default_rng(5 + index)
    weight = random.normal(size=(CHANNELS, 3 if index == 0 else CHANNELS, 3, 3)).astype(np.float32) * 0.02
    weight[range(3), range(3), 1, 1] = 1.0, 1.1, 1.2  # of blue, values become the largest
    weight[-1] = 0  # the channel that is always zero
    if has_outlier:
        weight[:, -1, 1, 1] = 1e4
    return weight


def publish_convolutions(registry: Registry, folder: Path, *, name: str, labels=None, fit=None, **options):
    """Publish one as the next version of `name`. `fit`: of a segmenter's pictures, else squashed; with
    `tiles` it takes windows."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    tiles = TILES if fit == "tiles" else None
    write_convolutions(path, labels=labels, size=("h", "w") if tiles else (SIDE, SIDE), **options)
    size = (-1, -1) if tiles else (SIDE, SIDE)
    has_maps = {"masks": MaskFacts(activation="sigmoid" if labels == 1 else "softmax")} if labels else {}
    manifest = Manifest(
        task=Task.SEGMENTATION if labels else Task.CLASSIFICATION,
        inputs=(TensorFacts(name="image", dtype="uint8", shape=(-1, *size, 3)),),
        outputs=(TensorFacts(name="logits", dtype="float32", shape=tuple(_shape(-1, labels, size))),),
        preprocessing=tiles.preprocessing
        if tiles
        else Preprocessing(height=SIDE, width=SIDE, crop=1.0, **({"fit": fit or "squash"} if labels else {})),
        labels=COLOURS[:labels],
        tiles=tiles,
        **has_maps,
    )
    return publish_graph(registry, name, manifest, path)


class CompressPlace:
    """A registry with a model and a data set of colours; remembers what the runs say."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.settings = Settings(
            _env_file=None,
            data_dir=folder / "data",
            database_url=url,
            cpu_threads=1,
            default_classifier="",
            starters="",
        )
        self.database = Database(url)
        self.objects = ObjectStore.from_settings(self.settings)
        self.registry = Registry(self.database, self.objects)
        self.datasets = DatasetService(self.database, self.objects)
        publish_convolutions(self.registry, folder / "colours", name="colours")
        publish_pack(self.datasets, SYSTEM, folder, name="flags")
        self.phases: list[str] = []
        self.messages: list[str] = []
        self.runs = 0

    def spec(self, **asked):
        """What the door makes of a request."""
        spec = CompressSpec(**{"model": "colours", "precision": "int8", "dataset": "flags", **asked})
        return plan_compression(SYSTEM, spec, registry=self.registry, datasets=self.datasets)

    def context(self, spec, **changes) -> JobContext:
        """The world of the next run."""
        self.runs += 1
        work_dir = self.folder / f"run-{self.runs}"
        work_dir.mkdir()
        context = JobContext(
            spec=spec,
            work_dir=work_dir,
            objects=self.objects,
            principal=SYSTEM,
            settings=self.settings,
            progress=lambda fraction, phase: self.phases.append(phase),
            message=self.messages.append,
        )
        return replace(context, **changes)

    def run(self, **asked):
        """Compress, and give what the worker would get."""
        return run(self.context(self.spec(**asked)))

    def publish(self, **asked):
        """Compress and publish, however slow it is."""
        return publish_parcel(self.registry, self.run(keep="always", **asked).publish)
