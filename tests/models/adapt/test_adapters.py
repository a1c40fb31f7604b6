"""What is particular to one method, or to how layers are chosen."""

import copy
import re

import pytest
import torch

from models.adapt.adapter import AdaptError, adapt, read_state
from models.build.network import build_network, head_of
from models.catalogue.row import Parameters, Row
from tests.models.adapt.trained_worlds import (
    STEPS,
    adapter_row,
    answers,
    architecture_row,
    base_of,
    optimizer_of,
    put,
    take_steps,
)


def lora_layers(adapted):
    return {name.partition(".lora_A")[0] for name in adapted.trainable_names if ".lora_A." in name}


# -- the starter ---------------------------------------------------------------------------------------


def test_lora_trains_less_than_a_tenth_of_the_starter_and_names_what_it_leaves_alone():
    row = architecture_row("tf_efficientnet_lite0")
    network = build_network(row, num_classes=10)
    later = re.compile(r"blocks\.[3-6]\.")
    depthwise = [
        name
        for name, module in network.named_modules()
        if later.match(name) and getattr(module, "groups", 1) > 1
    ]
    plain = sum(parameter.numel() for parameter in network.parameters())

    adapted = put(network, row.id, "lora", r=8)

    assert 0.02 < adapted.trainable_parameters / adapted.total_parameters < 0.1
    assert adapted.total_parameters == plain + adapted.trainable_parameters - 10 * 1281
    assert len(adapted.skipped) == len(depthwise) == 11
    assert all("a convolution in" in reason and "groups" in reason for reason in adapted.skipped)
    assert len(lora_layers(adapted)) == 23  # 22 pointwise convolutions of the later stages, and the last one
    assert all(later.match(name) or name == "conv_head" for name in lora_layers(adapted))


@pytest.mark.parametrize("method", ["lora", "full", "head", "bitfit"])
@pytest.mark.parametrize("network", ["test_efficientnet", "test_vit", "test_convnext"])
def test_the_head_s_parameters_are_found_under_every_wrapping(network, method):
    adapted = put(base_of(network), network, method)

    found = [tuple(one.shape) for one in adapted.head_parameters]

    head = base_of(network).get_submodule(head_of(base_of(network)))
    assert sorted(found) == sorted(tuple(one.shape) for one in head.parameters())
    assert all(one.requires_grad for one in adapted.head_parameters)


# -- which layers --------------------------------------------------------------------------------------


def test_globs_choose_layers_over_what_the_architecture_says():
    adapted = put(base_of("test_vit"), "test_vit", "lora", targets=["blocks.?.attn.*", "patch_embed.proj"])

    assert lora_layers(adapted) == {
        "patch_embed.proj",
        *(f"blocks.{block}.attn.{layer}" for block in range(6) for layer in ("qkv", "proj")),
    }


def test_without_globs_the_architecture_says_which():
    adapted = put(base_of("test_vit"), "test_vit", "lora")

    assert len(lora_layers(adapted)) == 24
    assert "patch_embed.proj" not in lora_layers(adapted)


def test_a_name_that_ends_like_a_target_is_no_target():
    adapted = put(base_of("resnet18"), "resnet18", "lora", targets=["conv1"])

    assert lora_layers(adapted) == {"conv1"}  # and not layer1.0.conv1


def test_a_glob_that_matches_nothing_is_refused_with_names_that_exist():
    with pytest.raises(
        AdaptError, match=r"'blocks\.\*\.attention' matches no layer of test_vit .*patch_embed"
    ):
        put(base_of("test_vit"), "test_vit", "lora", targets=["blocks.*.attention"])


@pytest.mark.parametrize(
    ("network", "method", "parameters", "says"),
    [
        ("test_convnext", "oft", {}, "oft finds no layer in test_convnext"),
        ("lenet5", "ln_tuning", {}, "ln_tuning finds no layer in lenet5"),
        ("test_vit", "oft", {"block_size": 23}, "no multiple of block_size 23"),
        ("test_vit", "pissa", {"r": 1000}, "below r"),
    ],
)
def test_a_method_without_a_layer_says_why_and_what_would_work(network, method, parameters, says):
    with pytest.raises(AdaptError, match=says) as error:
        put(base_of(network), network, method, **parameters)

    assert "lora, bitfit, full" in str(error.value)


def test_a_row_of_another_kind_is_no_adapter():
    row: Row = architecture_row("test_vit")
    network = base_of("test_vit")

    with pytest.raises(AdaptError, match="test_vit is no adapter"):
        adapt(network, row, Parameters(), architecture=row, head=head_of(network), total_steps=1)


def test_kernels_that_pefts_oft_computes_wrongly_are_skipped():
    adapted = put(base_of("test_resnet"), "test_resnet", "oft")
    kernels = {
        module.kernel_size
        for name, module in adapted.network.named_modules()
        if name.endswith("base_layer") and isinstance(module, torch.nn.Conv2d)
    }

    assert kernels == {(1, 1)}
    assert any("a kernel of (3, 3)" in reason for reason in adapted.skipped)


# -- first values --------------------------------------------------------------------------------------


def test_first_values_depend_on_the_seed_alone_and_leave_other_chance_alone():
    base = base_of("test_vit")
    torch.manual_seed(1)
    one = put(copy.deepcopy(base), "test_vit", "lora", seed=4).state()
    torch.manual_seed(2)
    drawn = torch.rand(1)
    torch.manual_seed(2)
    same = put(copy.deepcopy(base), "test_vit", "lora", seed=4).state()
    other = put(copy.deepcopy(base), "test_vit", "lora", seed=5).state()

    assert torch.equal(torch.rand(1), drawn)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "glora", "boft", "vera"])
def test_before_training_the_answers_are_the_bases(method):
    base = base_of("test_vit").eval()
    adapted = put(copy.deepcopy(base), "test_vit", method)
    adapted.network.eval()

    assert (answers(adapted.network) - answers(base)).abs().max() < 5e-6


def test_a_state_of_another_shape_is_refused():
    eight = put(base_of("test_vit"), "test_vit", "lora", r=8).state()
    four = put(base_of("test_vit"), "test_vit", "lora", r=4)

    with pytest.raises(AdaptError, match="does not fit: base_model"):
        four.load(eight)
    with pytest.raises(AdaptError, match="does not fit: more"):
        four.load(four.state() | {"more": torch.zeros(1)})


# -- AdaLoRA -------------------------------------------------------------------------------------------


def entries(adapted):
    return torch.cat([one for name, one in adapted.network.named_parameters() if ".lora_E." in name])


def test_adaloras_budget_falls_to_the_mean_rank_and_stays():
    adapted = put(base_of("test_vit"), "test_vit", "adalora", r=2, init_r=5, warm_up=0.1, final=0.3)
    optimizer = optimizer_of(adapted)
    take_steps(adapted, optimizer, range(STEPS - 5))
    kept = entries(adapted) != 0
    take_steps(adapted, optimizer, range(STEPS - 5, STEPS))

    assert kept.sum() == 2 * 24
    assert torch.equal(entries(adapted) != 0, kept)


@pytest.mark.parametrize("left_off", [6, 17], ids=["while the budget falls", "after it is settled"])
def test_adalora_goes_on_from_parameters_and_buffers_to_the_same_bits(left_off):
    base = base_of("test_vit")
    through = put(copy.deepcopy(base), "test_vit", "adalora")
    optimizer = optimizer_of(through)
    take_steps(through, optimizer, range(left_off))
    state = copy.deepcopy(through.network.state_dict())
    moments = copy.deepcopy(optimizer.state_dict())
    take_steps(through, optimizer, range(left_off, STEPS))

    resumed = put(copy.deepcopy(base), "test_vit", "adalora", seed=77)
    resumed.network.load_state_dict(state)
    optimizer = optimizer_of(resumed)
    optimizer.load_state_dict(moments)
    take_steps(resumed, optimizer, range(left_off, STEPS))

    expected = through.state()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state().items())


def test_adaloras_penalty_turns_its_factors_orthogonal():
    def distance(orthogonality):
        adapted = put(base_of("test_vit"), "test_vit", "adalora", orthogonality=orthogonality)
        take_steps(adapted, optimizer_of(adapted), range(STEPS))
        a = next(one for name, one in adapted.network.named_parameters() if ".lora_A." in name)
        return torch.linalg.norm(a @ a.T - torch.eye(len(a))).item()

    assert distance(0.5) < 0.9 * distance(0.0)


# -- PiSSA, full ---------------------------------------------------------------------------------------


def test_pissa_trains_the_principal_part_and_saves_it_as_plain_lora(tmp_path):
    base = base_of("test_vit")
    weight = base.get_parameter("blocks.0.attn.qkv.weight").detach().clone()
    adapted = put(base, "test_vit", "pissa", r=4)
    layer = adapted.network.get_submodule("blocks.0.attn.qkv")
    trained = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * layer.scaling["default"]
    values = torch.linalg.svdvals(weight)

    assert torch.equal(layer.base_layer.weight, weight)
    torch.testing.assert_close(torch.linalg.svdvals(trained)[:4], values[:4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.linalg.norm(weight - trained), torch.linalg.norm(values[4:]), rtol=1e-4, atol=1e-5
    )
    adapted.save(tmp_path)
    assert read_state(tmp_path)["base_model.model.blocks.0.attn.qkv.lora_A.weight"].shape == (8, 64)


def test_full_training_carries_the_statistics_of_batch_normalisation():
    base = base_of("test_resnet").eval()
    adapted = put(copy.deepcopy(base), "test_resnet", "full")
    take_steps(adapted, optimizer_of(adapted), range(3))

    assert not torch.equal(adapted.state()["bn1.running_mean"], base.state_dict()["bn1.running_mean"])


def test_every_methods_defaults_are_documented_for_those_who_ask():
    for row in (adapter_row(name) for name in ("lora", "adalora", "oft", "boft", "vera", "loha")):
        fields = row.parameters.model_json_schema()["properties"]
        assert all("description" in field for field in fields.values()), row.id


# -- GLoRA ---------------------------------------------------------------------------------------------


def test_glora_scales_and_moves_weight_and_bias():
    adapted = put(base_of("test_vit"), "test_vit", "glora", r=2)
    layer = adapted.network.get_submodule("blocks.0.attn.qkv")
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if ".default" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=chance))
    weight, bias = layer.base_layer.weight, layer.base_layer.bias
    a, b, c = (getattr(layer, f"glora_{part}").default for part in "ABC")
    d, e = (getattr(layer, f"glora_{part}").default.X for part in "DE")
    inputs = torch.randn(5, 64, generator=chance)

    assert a.Xu.shape == (2, 64)
    assert d.shape == e.shape == bias.shape
    expected = inputs @ (weight * (1 + a.Xd @ a.Xu) + b.Xd @ b.Xu).T
    expected = expected + bias * (1 + d) + e + (weight @ c.Xd @ c.Xu).squeeze(-1)
    torch.testing.assert_close(layer(inputs), expected, rtol=1e-4, atol=1e-4)
