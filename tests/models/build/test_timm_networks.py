"""timm's networks are built offline, and weights get into them only when every tensor fits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.build.state_file import read_state
from models.build.timm_ import WeightsMismatch, build_timm, load_by_name, load_by_position
from models.export.eager import run_eager
from models.export.reference import read_reference
from models.starters import get_starter
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits

TINY = "test_efficientnet"


@pytest.fixture(scope="module")
def network():
    return build_timm(TINY, num_classes=7)


def renamed(state):
    """The same tensors under other names, as another author would have called them."""
    return {f"_net.{name}": tensor for name, tensor in state.items()}


def test_a_network_is_in_eval_mode_and_has_the_classes_asked_for(network):
    assert not network.training
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_an_unknown_network_is_refused():
    with pytest.raises(WeightsMismatch, match="no network 'resnet_of_mine'"):
        build_timm("resnet_of_mine", num_classes=7)


def test_torchvision_imports_beside_timm_in_a_fresh_process():
    script = "from models.build.timm_ import build_timm; build_timm('test_efficientnet', num_classes=2)"

    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3], check=True)


def test_tensors_load_by_position_under_other_names(network):
    other = build_timm(TINY, num_classes=7)
    image = torch.rand(1, 3, 64, 64)

    names = load_by_position(other, renamed(network.state_dict()))

    assert names["conv_stem.weight"] == "_net.conv_stem.weight"
    assert torch.equal(other(image), network(image))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.popitem(), "tensors, the file"),
        (lambda state: state.update(extra=torch.zeros(1)), "tensors, the file"),
        (lambda state: state.update({"_net.classifier.bias": torch.zeros(8)}), r"classifier.bias \(7,\)"),
        (lambda state: state.update({"_net.classifier.bias": torch.zeros(7).double()}), "float64"),
        (lambda state: state.update({"_net.bn1.weight": state.pop("_net.bn1.weight")}), "Tensor 1: "),
    ],
    ids=["one missing", "one more", "another shape", "another dtype", "another order"],
)
def test_tensors_that_do_not_correspond_are_refused_by_position(network, change, says):
    state = renamed(network.state_dict())
    change(state)

    with pytest.raises(WeightsMismatch, match=says):
        load_by_position(build_timm(TINY, num_classes=7), state)


def test_tensors_that_do_not_correspond_are_refused_by_name(network):
    with pytest.raises(WeightsMismatch, match="conv_stem"):
        load_by_name(network, renamed(network.state_dict()))


def test_the_twin_network_takes_the_starters_tensors_and_is_found_out_by_the_reference(lite0):
    starter = get_starter("efficientnet-lite0")
    twin = build_timm("efficientnet_lite0", num_classes=1000)
    load_by_position(twin, read_state(lite0.source, file_name="net.pth"))
    reference = read_reference(starter.reference_path)
    codec = ClassificationCodec(lite0.manifest, ImageLimits())
    images = np.stack([codec.decode(sample) for sample in reference.samples[:2]])

    logits = run_eager(twin, starter.preprocessing, images)

    assert np.abs(logits - reference.logits[:2]).max() > 0.5


# -- files ---------------------------------------------------------------------------------------------


def test_state_dicts_are_read_from_safetensors_and_pickles(tmp_path):
    state = {"b": torch.ones(2), "a": torch.zeros(3)}
    save_file(state, tmp_path / "net")
    torch.save(state, tmp_path / "pickled")

    assert read_state(tmp_path / "net", file_name="x/net.safetensors").keys() == state.keys()
    assert list(read_state(tmp_path / "pickled", file_name="net.pth")) == ["b", "a"]


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/never", "w"))


@pytest.mark.parametrize(
    ("content", "file_name"),
    [
        ({"a": Evil()}, "net.pth"),
        ({"a": 1}, "net.pth"),
        ([torch.ones(1)], "net.bin"),
        (b"garbage", "net.pt"),
        (b"garbage", "net.safetensors"),
        (b"garbage", "net.h5"),
    ],
    ids=["code", "a number", "a list", "garbage", "no safetensors", "another format"],
)
def test_files_with_anything_but_tensors_are_refused(tmp_path, content, file_name):
    path = tmp_path / "file"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)

    with pytest.raises(WeightsMismatch):
        read_state(path, file_name=file_name)

    assert not Path("/tmp/never").exists()
