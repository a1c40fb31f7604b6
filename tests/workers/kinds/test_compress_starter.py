"""EfficientNet-Lite0 in int8: it pads by its input's size, and its first layers cannot do with 8 bits."""

import io

import numpy as np
import pytest
from PIL import Image

from app.access.principal import SYSTEM
from app.registry.verification import verify
from models.data.pack import PackWriter, Split
from models.manifest import MODEL_FILE
from tests.compress_world import CompressPlace
from tests.importing import PHOTOS
from tests.packs import publish_pack
from tests.registry_world import publish_parcel

SIZES = {Split.TRAIN: 48, Split.TEST: 48}


def write_crops(path):
    """Parts of the photographs, as PNG."""
    random = np.random.default_rng(3)
    photos = [
        Image.open(photo).convert("RGB")
        for photo in sorted(PHOTOS.iterdir())
        if photo.suffix in {".jpg", ".png"}
    ]
    assert len(photos) == 6
    with PackWriter(path, ["photo"]) as writer:
        for split, count in SIZES.items():
            for number in range(count):
                photo = photos[number % len(photos)]
                side = int(min(photo.size) * random.uniform(0.6, 1))
                left, top = (int(random.integers(0, size - side + 1)) for size in photo.size)
                data = io.BytesIO()
                photo.crop((left, top, left + side, top + side)).resize((256, 256)).save(data, "PNG")
                writer.add(
                    data.getvalue(), name=f"{split}-{number}", label=0, split=split, width=256, height=256
                )
        writer.finish()
    return path


@pytest.mark.slow
def test_the_starter_in_int8_is_a_quarter_as_large_and_keeps_most_labels(tmp_path, sqlite_url, lite0):
    place = CompressPlace(tmp_path, sqlite_url)
    publish_parcel(place.registry, lite0, name="efficientnet-lite0")
    pack = write_crops(tmp_path / "crops")
    publish_pack(place.datasets, SYSTEM, tmp_path, name="crops", pack=pack)
    version = place.publish(model="efficientnet-lite0", dataset="crops", least_agreement=0.8)
    certificate = place.registry.get_version(SYSTEM, "efficientnet-lite0", version.number).certificate
    compared = certificate.compared_with
    assert certificate.agreement.same_label >= 0.8
    assert certificate.agreement.cosine > 0.8
    assert certificate.size_bytes < 0.4 * compared.size_bytes
    assert compared.accuracy_before is None  # the labels are not the model's
    assert verify(place.settings, str(version)).computed.agreement == certificate.agreement
    assert lite0.artifacts[MODEL_FILE].stat().st_size == compared.size_bytes
    place.database.close()
