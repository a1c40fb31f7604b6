"""Makes models/starters/*/reference.safetensors of super-resolution: what ncnn gives for its own files.

    pip install ncnn && python examples/make_restorer_references.py [NAME …]

ncnn runs network and weights as they were published, on the CPU in float32; only the windows' pixels come
from Athanor's codec. Run it again when the codec's pixels change on purpose.
"""

import io
import sys
import tempfile
from pathlib import Path

import ncnn
import numpy as np
from PIL import Image

from models.build.ncnn_weights import load_ncnn
from models.build.rrdbnet import RRDBNet
from models.build.upconv7 import UpConv7
from models.export.eager import rounding_of
from models.export.reference import Reference, labels_sha256, write_reference
from models.manifest import Manifest, Task
from models.sources import FetchContext, parse_source
from models.starters import STARTERS, Starter, get_starter
from models.tasks.images import ImageLimits
from models.tasks.restoration import RestorationCodec

PHOTOS = Path(__file__).parent / "photos"
CROPS = (("chelsea.png", (120, 60)), ("coffee.png", (200, 120)))
"""Photograph, and where the sample's left upper corner is."""
NETWORKS = {"upconv7": UpConv7, "rrdbnet": RRDBNet}
BLOBS = {"upconv7": ("Input1", "Eltwise4"), "rrdbnet": ("data", "output")}
SIDES = {"upconv7": 48, "rrdbnet": 32}
PARAMS = {
    "upconv7": "413195ffde05b4d43807792c6c020c916cecdf25dcf002ee83f5e28d5cc246c6",
    "rrdbnet": "35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
}
"""SHA-256 of the files that hold the networks' layers."""


def main(names: list[str]) -> None:
    """Fetch, compute, write."""
    restorers = [name for name, row in STARTERS.items() if row.task is Task.SUPER_RESOLUTION]
    for name in names or restorers:
        write(get_starter(name))


def write(starter: Starter) -> None:
    """One starter's reference."""
    side = SIDES[starter.architecture]
    samples = tuple(crop(PHOTOS / name, at, side) for name, at in CROPS)
    codec = RestorationCodec(bare_manifest(starter), ImageLimits())
    windows = np.stack([codec.decode(sample) for sample in samples])
    with tempfile.TemporaryDirectory() as folder:
        weights = fetch(starter.source, Path(folder) / "weights", starter.sha256, starter)
        layers = starter.source.removesuffix(".bin") + ".param"
        param = fetch(layers, Path(folder) / "layers", PARAMS[starter.architecture], starter)
        pixels = run_ncnn(param, weights, windows, BLOBS[starter.architecture])
        network = NETWORKS[starter.architecture]().eval()
        load_ncnn(network, weights, example=nothing())
    reference = Reference(
        samples=samples,
        logits=pixels,
        labels=("",) * len(samples),
        all_labels_sha256=labels_sha256(starter.labels),
        by=f"ncnn {ncnn.__version__} on the published files",
        rounding=rounding_of(network, starter.preprocessing, windows),
    )
    starter.reference_path.parent.mkdir(exist_ok=True)
    write_reference(starter.reference_path, reference)
    size = starter.reference_path.stat().st_size
    print(f"{starter.name}: {pixels.shape}, {size} bytes, rounding {reference.rounding:.1e}")


def nothing():
    """An input that shows the order of the layers."""
    import torch  # noqa: PLC0415

    return torch.zeros(1, 3, 48, 48)


def bare_manifest(starter: Starter) -> Manifest:
    """As much of a manifest as cutting windows needs."""
    return Manifest(
        task=starter.task,
        inputs=(),
        outputs=(),
        preprocessing=starter.preprocessing,
        labels=(),
        tiles=starter.tiles,
    )


def crop(path: Path, at: tuple[int, int], side: int) -> bytes:
    """A square piece as a PNG's bytes."""
    left, top = at
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").crop((left, top, left + side, top + side)).save(buffer, "PNG")
    return buffer.getvalue()


def fetch(uri: str, folder: Path, sha256: str, starter: Starter) -> Path:
    """A published file."""
    folder.mkdir()
    context = FetchContext(work_dir=folder)
    fetched = parse_source(uri).fetch(context, expect_sha256=sha256, archive_sha256=starter.archive_sha256)
    return fetched.path


def run_ncnn(param: Path, weights: Path, windows: np.ndarray, blobs: tuple[str, str]) -> np.ndarray:
    """(n, h, w, 3) uint8 to (n, 3, h', w') float32."""
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.opt.use_winograd_convolution = False  # it rounds more than it saves here
    net.load_param(str(param))
    net.load_model(str(weights))
    results = []
    for window in windows:
        planes = np.ascontiguousarray(window.transpose(2, 0, 1), np.float32) / 255
        with net.create_extractor() as run:
            run.input(blobs[0], ncnn.Mat(planes))
            _, out = run.extract(blobs[1])
            results.append(np.array(out).copy())
    return np.stack(results)


if __name__ == "__main__":
    main(sys.argv[1:])
