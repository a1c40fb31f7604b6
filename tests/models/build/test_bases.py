"""A base's weights get into a network of other classes and another image size, and of nothing else."""

import pytest
import torch

from models.build.network import (
    CannotBuild,
    build_network,
    head_of,
    load_base,
    load_encoder,
    save_weights,
)
from models.build.state_file import read_state
from models.build.timm_ import WeightsMismatch
from models.catalogue import CATALOGUE, Kind
from models.catalogue.architectures import ARCHITECTURES
from models.catalogue.segmenters import SEGMENTERS


def built(name, *, classes=5, **options):
    return build_network(CATALOGUE.get(Kind.ARCHITECTURE, name), num_classes=classes, **options)


def same(network, other):
    ours, theirs = network.state_dict(), other.state_dict()
    return {name for name in ours if torch.equal(ours[name], theirs[name])}


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one = built("test_resnet", seed=3)
    torch.manual_seed(2)
    drawn = torch.rand(1)
    torch.manual_seed(2)
    again, other = built("test_resnet", seed=3), built("test_resnet", seed=4)

    assert torch.equal(torch.rand(1), drawn)
    assert same(one, again) == set(one.state_dict())
    assert "fc.weight" not in same(one, other)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("test_resnet", "fc"),
        ("test_efficientnet", "classifier"),
        ("test_vit", "head"),
        ("test_convnext", "head.fc"),
        ("test_swin", "head.fc"),
        ("lenet5", "output"),
    ],
)
def test_the_head_is_new_where_the_classes_are_others_and_all_else_is_the_bases(name, head):
    base, network, fresh = built(name, seed=1), built(name, classes=9, seed=2), built(name, classes=9, seed=2)

    assert not load_base(network, base.state_dict())

    assert head_of(network) == head
    heads = {f"{head}.weight", f"{head}.bias"}
    drawn, new = fresh.get_submodule(head).weight, network.get_submodule(head).weight
    assert torch.nn.functional.cosine_similarity(new.flatten(), drawn.flatten(), dim=0) > 0.9999
    assert float(new.detach().std()) == pytest.approx(0.01, rel=1e-3)
    assert not network.get_submodule(head).bias.any()
    rest = {tensor for tensor in base.state_dict() if tensor not in heads}
    assert all(torch.equal(network.state_dict()[tensor], base.state_dict()[tensor]) for tensor in rest)


def test_a_head_of_as_many_classes_is_kept_unless_told_otherwise():
    base = built("test_vit", seed=1)
    kept, new = built("test_vit", seed=2), built("test_vit", seed=2)

    assert load_base(kept, base.state_dict())
    assert not load_base(new, base.state_dict(), keeps_head=False)

    assert "head.weight" in same(kept, base)
    assert "head.weight" not in same(new, base)


def test_a_head_that_does_not_fit_cannot_be_kept():
    with pytest.raises(WeightsMismatch, match="head"):
        load_base(built("test_vit", classes=9), built("test_vit").state_dict(), keeps_head=True)


@pytest.mark.parametrize(("name", "sides"), [("test_vit", (160, 96)), ("test_swin", (128, 32))])
def test_tables_of_positions_are_interpolated_for_another_image_size(name, sides):
    base, network = built(name, image_size=sides[0], seed=1), built(name, image_size=sides[1], seed=2)

    load_base(network, base.state_dict())

    assert network(torch.zeros(1, 3, sides[1], sides[1])).shape == (1, 5)
    moved = set(base.state_dict()) - {
        tensor
        for tensor in base.state_dict()
        if base.state_dict()[tensor].shape == network.state_dict()[tensor].shape
        and torch.equal(base.state_dict()[tensor], network.state_dict()[tensor])
    }
    assert moved
    assert all("pos_embed" in tensor or "relative_position" in tensor for tensor in moved)


def test_an_interpolated_table_goes_on_saying_the_same_of_directions():
    base, network = built("test_swin", image_size=128), built("test_swin", image_size=32)
    name = "layers.2.blocks.0.attn.relative_position_bias_table"
    state = base.state_dict()
    offsets = torch.arange(-3.0, 4.0)  # windows of 4 x 4: the bias says how far to the right
    state[name] = offsets.repeat(7)[:, None].repeat(1, state[name].shape[1])

    load_base(network, state)

    table = network.state_dict()[name][:, 0].view(3, 3)  # windows of 2 x 2
    assert torch.allclose(table, table[:1].expand(3, 3), atol=1e-4)
    assert (table[:, 1].abs() < 1e-4).all()
    assert (table[:, 2] > 0.5).all()
    assert (table[:, 0] < -0.5).all()


def test_a_network_without_tables_takes_its_base_at_any_size():
    base, network = built("lenet5", seed=1), built("lenet5", image_size=50, seed=2)

    assert load_base(network, base.state_dict())
    assert network(torch.zeros(1, 3, 50, 50)).shape == (1, 5)
    assert same(base, network) == set(base.state_dict())


def test_weights_of_another_network_are_refused():
    with pytest.raises(WeightsMismatch, match="conv"):
        load_base(built("test_resnet"), built("test_efficientnet").state_dict())


@pytest.mark.parametrize(
    ("name", "side", "nearest"), [("test_vit", 100, 96), ("test_swin", 16, 32), ("lenet5", 20, 28)]
)
def test_a_size_that_a_network_cannot_take_is_refused_with_the_nearest(name, side, nearest):
    with pytest.raises(CannotBuild, match=f"{side} is not one. The nearest is {nearest}"):
        built(name, image_size=side)


def test_saved_weights_are_read_back_to_the_bit(tmp_path):
    network, other = built("test_resnet", seed=1), built("test_resnet", seed=2)
    save_weights(network.to(memory_format=torch.channels_last), tmp_path / "weights.safetensors")

    load_base(other, read_state(tmp_path / "weights.safetensors", file_name="weights.safetensors"))

    assert same(network, other) == set(network.state_dict())


OVER_ENCODERS = [row for row in SEGMENTERS if row.encoder is not None]


@pytest.mark.parametrize("row", OVER_ENCODERS, ids=lambda row: row.id)
def test_an_encoder_begins_with_a_classifiers_weights(row):
    classifier = built(row.encoder, seed=1)
    network, fresh = built(row.id, seed=2), built(row.id, seed=2)

    load_encoder(network, classifier.state_dict())

    ours, theirs = network.state_dict(), classifier.state_dict()
    encoder = {name.removeprefix("encoder.") for name in ours if name.startswith("encoder.")}
    assert len(encoder) > 20
    assert all(torch.equal(ours[f"encoder.{name}"], theirs[name]) for name in encoder)
    others = {name for name in ours if not name.startswith("encoder.")}
    assert others <= same(network, fresh)


def test_every_network_over_an_encoder_was_tried():
    methods = {row.family for row in OVER_ENCODERS}
    assert (len(OVER_ENCODERS), len(methods)) == (24, 5)
    assert {row.encoder for row in OVER_ENCODERS} <= {row.id for row in ARCHITECTURES}


def test_an_encoder_sees_what_its_classifier_saw():
    """All deep features are the classifier's: nothing is left out on the way."""
    classifier, network = built("test_resnet", seed=1), built("unet_test_resnet", seed=2)
    load_encoder(network, classifier.state_dict())
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network.encoder(pixels)[-1], classifier.forward_features(pixels))


def test_an_encoder_takes_no_other_networks_weights():
    with pytest.raises(WeightsMismatch, match="no such tensor"):
        load_encoder(built("unet_test_resnet"), built("test_efficientnet").state_dict())
    network, state = built("unet_test_resnet"), built("test_resnet").state_dict()
    first = next(iter(network.encoder.state_dict()))
    with pytest.raises(WeightsMismatch, match=r"has one of \[1, "):
        load_encoder(network, {**state, first: state[first][:1]})
