"""The last step of the matrix: a network of each family, and one under each adapter, answers over HTTP."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from app.access.principal import SYSTEM
from models.build.network import build_network, build_restorer, tiles_of
from models.catalogue import CATALOGUE, Kind
from models.catalogue.adapters import ADAPTERS
from models.catalogue.architecture import Architecture
from models.catalogue.architectures import ARCHITECTURES
from models.export.eager import run_eager
from models.export.onnx import Origin, export_classifier, export_restorer, export_segmenter
from models.export.parity import certify
from models.manifest import MODEL_FILE, MaskFacts, Preprocessing
from tests.models.adapt.trained_worlds import trained
from tests.serving import gateway

pytestmark = pytest.mark.slow

SIDE, LABELS = 32, ("a", "b", "c")
FAMILIES = {
    "resnet": "test_resnet",
    "efficientnet": "test_efficientnet",
    "mobilenet_v2": "mobilenetv2_035",
    "mobilenet_v3": "mobilenetv3_small_050",
    "convnext": "test_convnext",
    "vit": "test_vit",
    "swin": "test_swin",
    "lenet": "lenet5",
}
SEGMENTERS = {
    "unet": "unet_tiny",
    "u2net": "u2netp",
    "encoded_unet": "unet_test_resnet",
    "unetplusplus": "unetplusplus_test_resnet",
    "fpn": "fpn_test_resnet",
    "pspnet": "pspnet_test_resnet",
    "deeplabv3plus": "deeplabv3plus_test_resnet",
    "segformer": "segformer_tiny",
}
RESTORERS = {
    "srcnn": ("srcnn", 2),
    "fsrcnn": ("fsrcnn_small", 3),
    "espcn": ("espcn", 4),
    "vdsr": ("vdsr_small", 2),
    "edsr": ("edsr_tiny", 4),
    "upconv7": ("upconv7", 2),
}
METHODS = [row.id for row in ADAPTERS]
IMAGE = np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("rows")) as world:
        yield world


def row_of(name: str) -> Architecture:
    return CATALOGUE.get(Kind.ARCHITECTURE, name)


def publish(world, folder, network: torch.nn.Module, *, row: Architecture, name: str) -> np.ndarray:
    """Export, certify and publish; what the network itself says of the picture, as probabilities."""
    preprocessing = Preprocessing(height=SIDE, width=SIDE, crop=1.0, mean=row.mean, std=row.std)
    model = folder / "model.onnx"
    manifest = export_classifier(network, preprocessing, LABELS, model, origin=Origin(architecture=row.timm))
    world.registry.publish(
        SYSTEM,
        name=name,
        manifest=manifest,
        certificate=certify(model, manifest),
        artifacts={MODEL_FILE: model},
    )
    world.pin_plan(name, batch=1)
    logits = torch.from_numpy(run_eager(network, preprocessing, IMAGE[None])[0])
    return torch.softmax(logits, 0).numpy()


def answer(world, name: str) -> np.ndarray:
    """Probabilities in the order of the labels."""
    data = BytesIO()
    Image.fromarray(IMAGE).save(data, "PNG")
    with world.client() as client:
        said = client.post("/v1/classification", params={"model": name}, content=data.getvalue())
    assert said.status_code == 200, said.text
    scores = {one["label"]: one["score"] for one in said.json()["predictions"]}
    return np.array([scores[label] for label in LABELS])


def test_every_family_and_every_adapter_is_here():
    assert {*FAMILIES, *SEGMENTERS, *RESTORERS} == {row.family for row in ARCHITECTURES}
    assert len(METHODS) == 16


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_each_family_answers_what_it_computes(world, tmp_path, family):
    row = row_of(FAMILIES[family])
    network = build_network(row, num_classes=3, image_size=SIDE, seed=4)
    name = f"family-{family.replace('_', '-')}"

    expected = publish(world, tmp_path, network, row=row, name=name)

    np.testing.assert_allclose(answer(world, name), expected, atol=1e-4)


@pytest.mark.parametrize("family", SEGMENTERS)
def test_a_segmenter_of_each_family_answers_what_it_computes(world, tmp_path, family):
    row, name, model = (
        row_of(SEGMENTERS[family]),
        f"masks-{family.replace('_', '-')}",
        tmp_path / "model.onnx",
    )
    network = build_network(row, num_classes=3, image_size=SIDE, seed=4)
    how = Preprocessing(height=SIDE, width=SIDE, fit="squash", mean=row.mean, std=row.std)
    origin, masks = Origin(architecture=row.id), MaskFacts(activation="softmax")
    manifest = export_segmenter(network, how, LABELS, model, origin=origin, masks=masks)
    artifacts, certificate = {MODEL_FILE: model}, certify(model, manifest)
    world.registry.publish(SYSTEM, name=name, manifest=manifest, certificate=certificate, artifacts=artifacts)
    world.pin_plan(name, batch=1)
    data = BytesIO()
    Image.fromarray(IMAGE).save(data, "PNG")
    asked = {"model": name, "output": "labelmap", "threshold": 0.1}
    with world.client() as client:
        said = client.post("/v1/segmentation", params=asked, content=data.getvalue())
    assert said.status_code == 200, said.text
    levels = np.asarray(Image.open(BytesIO(said.content)))
    expected = run_eager(network, how, IMAGE[None])[0].argmax(axis=0) + 1
    assert (levels == expected).mean() > 0.999  # where two labels are as good, rounding decides


@pytest.mark.parametrize("family", RESTORERS)
def test_a_network_of_each_family_enlarges_as_it_computes(world, tmp_path, family):
    (row_name, scale), name, model = RESTORERS[family], f"larger-{family}", tmp_path / "model.onnx"
    network = build_restorer(row_of(row_name), scale=scale, seed=4)
    tiles = tiles_of(network, scale)
    manifest = export_restorer(network, tiles, model, origin=Origin(architecture=row_name))
    artifacts, certificate = {MODEL_FILE: model}, certify(model, manifest)
    world.registry.publish(SYSTEM, name=name, manifest=manifest, certificate=certificate, artifacts=artifacts)
    world.pin_plan(name, batch=2)
    pixels = np.random.default_rng(6).integers(0, 256, (150, 40, 3), dtype=np.uint8)  # two windows
    data = BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    with world.client() as client:
        asked = {"model": name, "scale": scale}
        said = client.post("/v1/super-resolution", params=asked, content=data.getvalue())
    assert said.status_code == 200, said.text
    made = np.asarray(Image.open(BytesIO(said.content))).astype(int)

    around = np.pad(pixels, ((tiles.surround,) * 2, (tiles.surround,) * 2, (0, 0)), mode="edge")
    whole = run_eager(network, tiles.preprocessing, around[None])[0].transpose(1, 2, 0)
    cut = tiles.context * scale
    whole = whole[cut : whole.shape[0] - cut, cut : whole.shape[1] - cut]
    assert made.shape == whole.shape == (150 * scale, 40 * scale, 3)
    assert np.abs(made - np.clip(np.rint(whole * 255), 0, 255)).max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_what_an_adapter_was_trained_to_answers_over_http(world, tmp_path, method):
    under = trained("test_vit", method)
    row = row_of("test_vit")
    name = f"adapter-{method.replace('_', '-')}"

    expected = publish(world, tmp_path, under.adapted.merge(), row=row, name=name)
    preprocessing = Preprocessing(height=SIDE, width=SIDE, crop=1.0, mean=row.mean, std=row.std)
    unmerged = run_eager(under.adapted.network, preprocessing, IMAGE[None])[0]

    said = answer(world, name)
    np.testing.assert_allclose(said, expected, atol=1e-4)
    assert said.argmax() == unmerged.argmax()
