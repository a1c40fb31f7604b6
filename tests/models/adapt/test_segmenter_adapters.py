"""Every method for segmentation on the smallest network of each family of segmenters."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.adapt.adapter import Adapted, read_state
from models.build.network import build_network, head_of
from models.catalogue import CATALOGUE, Kind
from models.manifest import Task
from tests.models.adapt.trained_worlds import architecture_row, optimizer_of, put

pytestmark = pytest.mark.slow

SIDE = 32
NETWORKS = (
    "unet_tiny",
    "u2netp",
    "unet_test_resnet",
    "unetplusplus_test_resnet",
    "fpn_test_resnet",
    "pspnet_test_resnet",
    "deeplabv3plus_test_resnet",
    "segformer_tiny",
)
METHODS = tuple(row.id for row in CATALOGUE.find(kind=Kind.ADAPTER, task=Task.SEGMENTATION))
ROUNDING = 2e-5


@dataclass(frozen=True)
class World:
    name: str
    method: str
    base: nn.Module
    """Never touched."""
    adapted: Adapted
    losses: list[float]


def squares() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a brighter square, and where it is."""
    pixels = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    masks = torch.zeros(4, SIDE, SIDE, dtype=torch.int64)
    masks[:, 8:24, 8:24] = 1
    return pixels + 2 * masks[:, None], masks


def maps_of(network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return network(squares()[0])


@pytest.fixture(
    scope="module",
    params=[(name, method) for name in NETWORKS for method in METHODS],
    ids="-".join,
)
def world(request) -> World:
    name, method = request.param
    base = build_network(architecture_row(name), num_classes=2, image_size=SIDE, seed=5)
    adapted = put(copy.deepcopy(base), name, method)
    optimizer, losses = optimizer_of(adapted), []
    pixels, masks = squares()
    adapted.network.to(memory_format=torch.channels_last)
    adapted.train_mode()
    for step in range(8):
        torch.manual_seed(step)
        loss = functional.cross_entropy(adapted.network(pixels), masks)
        loss.backward()
        adapted.add_penalty()
        optimizer.step()
        adapted.after_step(step)
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    adapted.network.to(memory_format=torch.contiguous_format)
    adapted.network.eval()
    return World(name, method, base, adapted, losses)


def test_the_matrix_has_every_method_on_every_family():
    families = {row.family for row in CATALOGUE.find(kind=Kind.ARCHITECTURE, task=Task.SEGMENTATION)}
    assert {architecture_row(name).family for name in NETWORKS} == families
    assert (len(NETWORKS), len(METHODS)) == (8, 7)


def test_training_lowers_the_loss(world):
    assert min(world.losses[-3:]) < world.losses[0]


def test_disabled_the_base_is_there_to_the_last_bit(world):
    with world.adapted.disable():
        disabled = maps_of(world.adapted.network)
    assert torch.equal(disabled, maps_of(world.base))
    assert not torch.equal(maps_of(world.adapted.network), disabled)


def test_saved_and_loaded_on_a_fresh_base_it_answers_the_same(world, tmp_path):
    world.adapted.save(tmp_path)
    fresh = put(copy.deepcopy(world.base), world.name, world.method, seed=99)
    fresh.load(read_state(tmp_path))
    fresh.network.eval()
    assert torch.equal(maps_of(fresh.network), maps_of(world.adapted.network))


def test_merged_it_is_a_plain_network_that_computes_the_same(world):
    merged, expected = world.adapted.merge(), maps_of(world.adapted.network)
    assert merged.state_dict().keys() == world.base.state_dict().keys()
    assert type(merged.get_submodule(head_of(merged))) is type(world.base.get_submodule(head_of(world.base)))
    assert (maps_of(merged) - expected).abs().max() <= ROUNDING * max(1.0, expected.abs().max())
