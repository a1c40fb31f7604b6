"""Makes models/starters/u2netp/reference.safetensors: what the source's own ONNX file gives.

    python examples/make_u2netp_reference.py

ONNX Runtime runs the file as it was published, up to the last value before its sigmoid; only the pixels come
from Athanor's codec. Run it again when the codec's pixels change on purpose.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from PIL import Image

from models.build.onnx_weights import load_convolutions
from models.build.u2net import U2Net
from models.export.eager import rounding_of
from models.export.reference import Reference, labels_sha256, write_reference
from models.sources import FetchContext, parse_source
from models.starters import Starter, get_starter
from models.tasks.fitting import ImageFitter
from models.tasks.images import ImageLimits

PHOTOS = Path(__file__).parent / "photos"
SAMPLES = (("astronaut.jpg", (300, 300)), ("coffee.png", (450, 300)))


def main() -> None:
    """Fetch, compute, write."""
    starter = get_starter("u2netp")
    samples = tuple(encode(Image.open(PHOTOS / name), size) for name, size in SAMPLES)
    fitter = ImageFitter(starter.preprocessing, ImageLimits())
    pixels = np.stack([fitter.decode(sample) for sample in samples])
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(starter, Path(folder))
        network = U2Net().eval()
        load_convolutions(network, path, example=torch.zeros(1, 3, 320, 320))
        reference = Reference(
            samples=samples,
            logits=np.concatenate([run_source(path, normalised(starter, one[None])) for one in pixels]),
            labels=("",) * len(samples),
            by="the source's own u2netp.onnx",
            all_labels_sha256=labels_sha256(starter.labels),
            rounding=rounding_of(network, starter.preprocessing, pixels),
        )
    write_reference(starter.reference_path, reference)
    print(f"{starter.reference_path.stat().st_size} bytes, rounding {reference.rounding:.2e}")


def encode(image: Image.Image, size: tuple[int, int]) -> bytes:
    """A resized copy as a JPEG's bytes."""
    buffer = io.BytesIO()
    image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def fetch(starter: Starter, folder: Path) -> Path:
    """The published file."""
    return (
        parse_source(starter.source)
        .fetch(
            FetchContext(work_dir=folder),
            expect_sha256=starter.sha256,
            archive_sha256=starter.archive_sha256,
        )
        .path
    )


def normalised(starter: Starter, pixels: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) uint8 to the (n, 3, H, W) float32 that the file takes."""
    scaled = (pixels - np.array(starter.preprocessing.mean)) / np.array(starter.preprocessing.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def run_source(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Logits (1, 1, H, W): what goes into the sigmoid of the file's first output."""
    model = onnx.load(path)
    first = model.graph.output[0].name
    sigmoid = next(node for node in model.graph.node if first in node.output)
    model.graph.output.append(helper.make_tensor_value_info(sigmoid.input[0], TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run([sigmoid.input[0]], {session.get_inputs()[0].name: pixels})[0]


if __name__ == "__main__":
    main()
