"""Every network of the catalogue can be built; of each family a small one learns and exports."""

import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.build.network import build_network, head_of
from models.catalogue import CATALOGUE, Kind
from models.catalogue.architecture import Architecture
from models.catalogue.architectures import ARCHITECTURES, of_network
from models.export.eager import hold_against_eager
from models.export.onnx import Origin, export_classifier, export_segmenter
from models.export.served import ServedSession
from models.manifest import MaskFacts, Preprocessing, Task

TINY = {
    "resnet": "test_resnet",
    "efficientnet": "test_efficientnet",
    "mobilenet_v2": "mobilenetv2_035",
    "mobilenet_v3": "mobilenetv3_small_050",
    "convnext": "test_convnext",
    "vit": "test_vit",
    "swin": "test_swin",
    "lenet": "lenet5",
}
TINY_SEGMENTERS = {
    "unet": "unet_tiny",
    "u2net": "u2netp",
    "encoded_unet": "unet_test_resnet",
    "unetplusplus": "unetplusplus_test_resnet",
    "fpn": "fpn_test_resnet",
    "pspnet": "pspnet_test_resnet",
    "deeplabv3plus": "deeplabv3plus_test_resnet",
    "segformer": "segformer_tiny",
}
NETWORKS = {row.timm: row for row in ARCHITECTURES if Task.CLASSIFICATION in row.tasks}
SEGMENTERS = {row.timm: row for row in ARCHITECTURES if Task.SEGMENTATION in row.tasks}
OF_THE_STARTER = "tf_efficientnet_lite"


def row_of(name: str) -> Architecture:
    return CATALOGUE.get(Kind.ARCHITECTURE, name)


def test_each_network_has_a_row_of_its_name_and_each_family_a_tiny_one():
    assert len(ARCHITECTURES) == 114
    assert len(NETWORKS) == 60
    assert len(SEGMENTERS) == 28
    of_pictures = {row.family for row in ARCHITECTURES if Task.SUPER_RESOLUTION in row.tasks}
    assert {row.family for row in ARCHITECTURES} == {*TINY, *TINY_SEGMENTERS, *of_pictures}
    assert all(
        of_network(name) is not None and of_network(name).timm == name for name in {**NETWORKS, **SEGMENTERS}
    )
    assert of_network("resnet") == row_of("resnet")
    assert of_network("nothing") is None


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_says_of_its_network_what_is_so(name):
    row = NETWORKS[name]
    with torch.device("meta"), warnings.catch_warnings():
        network = build_network(row, num_classes=7)
    head = head_of(network)
    linears = [
        layer
        for layer, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and layer != head
    ]

    assert network.get_submodule(head).out_features == 7
    assert row.has_linears == bool(linears)
    assert row.image_size % row.side_multiple == 0
    facts = getattr(network, "pretrained_cfg", {})
    if "mean" in facts and not name.startswith(OF_THE_STARTER):  # which has its own, as its starter says
        np.testing.assert_allclose(np.array(facts["mean"]) * 255, row.mean, atol=0.6)
        np.testing.assert_allclose(np.array(facts["std"]) * 255, row.std, atol=0.6)


@pytest.mark.parametrize("family", TINY)
def test_of_each_family_one_learns_and_its_graph_computes_the_same(family, tmp_path):
    row = row_of(TINY[family])
    assert row.family == family
    network = build_network(row, num_classes=3, image_size=64, seed=1)
    losses = learn(network)
    export_holds(network, row, tmp_path)

    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_segmenter_gives_a_map_per_label_of_the_sizes_that_its_row_says(name):
    row = SEGMENTERS[name]
    with torch.device("meta"):
        network = build_network(row, num_classes=5)
        sides = [row.smallest_size + row.side_multiple]
        for side in [row.smallest_size, *sides] if name in TINY_SEGMENTERS.values() else sides:
            assert network(torch.zeros(2, 3, side, side)).shape == (2, 5, side, side)
    head = network.get_submodule(head_of(network))
    assert row.why_not_side(row.image_size) is None
    assert any(isinstance(layer, torch.nn.Conv2d) for layer in head.modules())
    assert row.has_linears == any(isinstance(layer, torch.nn.Linear) for layer in network.modules())


@pytest.mark.parametrize("family", TINY_SEGMENTERS)
def test_of_each_family_of_segmenters_one_learns_and_its_graph_computes_the_same(family, tmp_path):
    row = row_of(TINY_SEGMENTERS[family])
    assert row.family == family
    network = build_network(row, num_classes=2, image_size=32, seed=1)
    losses = learn_masks(network)
    preprocessing = Preprocessing(height=32, width=32, fit="squash", mean=row.mean, std=row.std)
    path, masks = tmp_path / "model.onnx", MaskFacts(activation="softmax")
    origin = Origin(architecture=row.id)
    manifest = export_segmenter(network, preprocessing, ["a", "b"], path, origin=origin, masks=masks)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    session = ServedSession(path)
    session.check(manifest)
    for batch in (images[:1], images):
        hold_against_eager(session.run, network, preprocessing, batch)

    assert losses[-1] < 0.7 * losses[0]


def learn_masks(network: torch.nn.Module) -> list[float]:
    """Where noise is bright, by heart."""
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    masks = torch.zeros(4, 32, 32, dtype=torch.int64)
    masks[:, 8:24, 8:24] = 1
    pixels += masks[:, None]
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    losses = []
    for _ in range(15):
        loss = functional.cross_entropy(network(pixels), masks)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    network.eval()
    return losses


def learn(network: torch.nn.Module) -> list[float]:
    """Six pictures of three classes, by heart."""
    pixels = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    targets = torch.arange(6) % 3
    pixels += targets.float().view(-1, 1, 1, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    torch.manual_seed(3)
    losses = []
    for _ in range(15):
        loss = functional.cross_entropy(network(pixels), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    network.eval()
    return losses


def export_holds(network: torch.nn.Module, row: Architecture, folder) -> None:
    """The served graph equals the network, alone and in a batch."""
    preprocessing = Preprocessing(height=64, width=64, mean=row.mean, std=row.std)
    path = folder / "model.onnx"
    manifest = export_classifier(
        network, preprocessing, list("abc"), path, origin=Origin(architecture=row.timm)
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    session = ServedSession(path)
    session.check(manifest)
    for batch in (images[:1], images):
        hold_against_eager(session.run, network, preprocessing, batch)
