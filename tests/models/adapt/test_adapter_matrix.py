"""Every method on a vision transformer, a ResNet and an EfficientNet: what holds for all of them."""

import copy
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.batchnorm import _BatchNorm

from models.adapt.adapter import AdaptError, read_state
from models.build.network import head_of
from models.catalogue.adapters import ADAPTERS
from models.export.eager import run_eager
from models.export.onnx import Origin, export_classifier
from models.export.parity import certify
from models.export.reference import Reference, labels_sha256, write_reference
from models.manifest import Level, Preprocessing
from tests.models.adapt.trained_worlds import (
    CLASSES,
    SIDE,
    World,
    answers,
    architecture_row,
    base_of,
    features,
    put,
    trained,
)

pytestmark = pytest.mark.slow

NETWORKS = ("test_vit", "test_resnet", "test_efficientnet")
METHODS = tuple(row.id for row in ADAPTERS)
REFUSED = {(network, method) for network in NETWORKS[1:] for method in ("pissa", "glora", "vera")}
PAIRS = [(network, method) for network in NETWORKS for method in METHODS if (network, method) not in REFUSED]
PEFTS = {row.id for row in ADAPTERS if row.is_pefts}
PEFTS_PAIRS = [pair for pair in PAIRS if pair[1] in PEFTS]
ROUNDING = 2e-5


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def world(request) -> World:
    return trained(*request.param)


def test_the_matrix_has_every_method_on_every_network():
    assert len(METHODS) == 16
    assert len(PAIRS) == 3 * 16 - 6
    assert len(PEFTS_PAIRS) == 3 * 13 - 6


@pytest.mark.parametrize(("network", "method"), sorted(REFUSED))
def test_a_method_that_cannot_change_a_network_says_so_and_what_can(network, method):
    with pytest.raises(
        AdaptError, match=f"{method} changes linear layers only, and {network} .*lora"
    ) as error:
        put(base_of(network), network, method)

    assert "bitfit" in str(error.value)


def test_training_lowers_the_loss_and_moves_the_answers(world):
    moved = (answers(world.adapted.network) - answers(world.base)).abs().max()

    assert moved > 1e-3
    assert min(world.losses[-3:]) < world.losses[0]


def test_the_head_is_trained_and_known(world):
    head = base_of(world.architecture).get_submodule(head_of(world.base))
    assert sorted(one.shape for one in world.adapted.head_parameters) == sorted(
        one.shape for one in head.parameters()
    )


def test_the_method_itself_moves_what_the_head_is_given(world):
    head = head_of(world.base)
    moved = (features(world.adapted.network, head) - features(world.base, head)).abs().max()

    assert moved == 0 if world.method == "head" else moved > 1e-3


def test_disabled_the_base_is_there_to_the_last_bit_and_enabled_the_adapter_again(world):
    before, trains = answers(world.adapted.network), world.adapted.trainable_names

    with world.adapted.disable():
        disabled = answers(world.adapted.network)

    assert torch.equal(disabled, answers(world.base))
    assert torch.equal(answers(world.adapted.network), before)
    assert world.adapted.trainable_names == trains


def test_only_what_is_said_to_be_trained_differs_from_the_base(world):
    base, trained_names = world.base.state_dict(), set(world.adapted.trainable_names)
    compared = set()
    for name, tensor in world.adapted.network.state_dict().items():
        plain = re.sub(r"\.(base_layer|original_module)(?=\.)", "", name)
        if plain in base and name not in trained_names:
            compared.add(plain)
            is_statistic = "running_" in name or "num_batches" in name
            if not (is_statistic and world.method == "full"):
                assert torch.equal(tensor, base[plain]), name

    in_place = {name for name in trained_names if name in base}
    assert compared | in_place == set(base)


def test_the_head_trains_whole(world):
    head = head_of(world.base)
    heads = {name.rpartition(".")[2] for name in world.adapted.trainable_names if name.startswith(f"{head}.")}

    assert heads == {"weight", "bias"}


def test_saved_and_loaded_on_a_fresh_base_it_answers_the_same_to_the_last_bit(world, tmp_path):
    files = world.adapted.save(tmp_path)
    fresh = world.fresh()
    fresh.load(read_state(tmp_path))
    fresh.network.eval()

    assert [file.name for file in files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert torch.equal(answers(fresh.network), answers(world.adapted.network))


@pytest.mark.filterwarnings("ignore:Unsupported layer type")  # peft's own, about LN tuning
@pytest.mark.parametrize("world", PEFTS_PAIRS, indirect=True, ids="-".join, scope="module")
def test_plain_peft_loads_what_is_saved(world, tmp_path):
    from peft import PeftModel

    world.adapted.save(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(world.base), str(tmp_path)).eval()

    # PiSSA is saved as one LoRA and trained as two, BOFT multiplies blocks: sums are taken in another order.
    allowed = ROUNDING if world.method in {"pissa", "boft"} else 0.0
    expected = answers(world.adapted.network)
    assert (answers(loaded) - expected).abs().max() <= allowed * max(1.0, expected.abs().max())


def test_merged_it_is_a_plain_network_that_computes_the_same(world):
    merged = world.adapted.merge()
    expected = answers(world.adapted.network)

    assert merged.state_dict().keys() == world.base.state_dict().keys()
    assert type(merged.get_submodule(head_of(merged))) is torch.nn.Linear
    assert (answers(merged) - expected).abs().max() <= ROUNDING * max(1.0, expected.abs().max())


def test_its_graph_is_certified_against_the_network_before_it_was_merged(world, tmp_path):
    row, labels = architecture_row(world.architecture), tuple(f"class {at}" for at in range(CLASSES))
    preprocessing = Preprocessing(height=SIDE, width=SIDE, crop=1.0, mean=row.mean, std=row.std)
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    logits = run_eager(world.adapted.network, preprocessing, images)
    reference = Reference(
        samples=tuple(png(image) for image in images),
        logits=logits,
        labels=tuple(labels[best] for best in logits.argmax(axis=1)),
        by="eager PyTorch",
        all_labels_sha256=labels_sha256(labels),
    )
    write_reference(tmp_path / "reference.safetensors", reference)

    model = tmp_path / "model.onnx"
    manifest = export_classifier(world.adapted.merge(), preprocessing, labels, model, origin=Origin())
    certificate = certify(model, manifest, tmp_path / "reference.safetensors")

    assert certificate.level is Level.CERTIFIED
    assert certificate.agreement.samples == 3


def png(image: np.ndarray) -> bytes:
    data = BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


def test_batch_normalisation_keeps_its_statistics_unless_all_is_trained(world):
    world.adapted.train_mode()
    norms = [module for module in world.adapted.network.modules() if isinstance(module, _BatchNorm)]
    modes = {module.training for module in norms}
    is_training = world.adapted.network.training
    world.adapted.network.eval()

    assert is_training
    assert modes == (set() if world.architecture == "test_vit" else {world.method == "full"})
