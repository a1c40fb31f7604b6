"""U²-Net-p: its size, any image size, and weights that come by the order of convolutions."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from models.build.onnx_weights import load_convolutions
from models.build.timm_ import WeightsMismatch
from models.build.u2net import U2Net


def test_it_has_as_many_parameters_as_the_published_file():
    assert sum(one.numel() for one in U2Net().parameters()) == 1_125_485


@pytest.mark.parametrize("size", [(64, 64), (50, 91), (33, 32)])
def test_maps_are_as_large_as_the_picture(size):
    with torch.inference_mode():
        assert U2Net(3).eval()(torch.zeros(1, 3, *size)).shape == (1, 3, *size)


def test_every_parameter_is_used():
    network = U2Net(2)
    network(torch.randn(1, 3, 64, 64)).square().mean().backward()
    assert [name for name, one in network.named_parameters() if one.grad is None] == []


def small_file(path, *shapes, biased=True):
    nodes, tensors, last = [], [], "x"
    for index, shape in enumerate(shapes):
        tensors.append(numpy_helper.from_array(np.full(shape, index + 1, np.float32), f"w{index}"))
        tensors.append(numpy_helper.from_array(np.full(shape[0], -index - 1, np.float32), f"b{index}"))
        inputs = [last, f"w{index}", f"b{index}"][: 3 if biased else 2]
        nodes.append(helper.make_node("Conv", inputs, [f"y{index}"], pads=[1, 1, 1, 1]))
        last = f"y{index}"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        tensors,
    )
    onnx.save(helper.make_model(graph), path)
    return path


class Backwards(torch.nn.Module):
    """Runs its layers in the other order than it holds them."""

    def __init__(self):
        super().__init__()
        self.last, self.first = torch.nn.Conv2d(4, 2, 3, padding=1), torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, pixels):
        return self.last(self.first(pixels))


def test_weights_come_in_the_order_in_which_layers_run(tmp_path):
    network = Backwards()
    path = small_file(tmp_path / "two.onnx", (4, 3, 3, 3), (2, 4, 3, 3))
    load_convolutions(network, path, example=torch.zeros(1, 3, 8, 8))
    assert (network.first.weight == 1).all()
    assert (network.first.bias == -1).all()
    assert (network.last.weight == 2).all()


@pytest.mark.parametrize(
    ("shapes", "biased", "message"),
    [
        ([(4, 3, 3, 3)], True, "2 convolutions, the file 1"),
        ([(4, 3, 3, 3), (2, 5, 3, 3)], True, r"Convolution 1: .*\[2, 4, 3, 3\], the file \[2, 5, 3, 3\]"),
        ([(4, 3, 3, 3), (2, 4, 3, 3)], False, "no bias"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, shapes, biased, message):
    path = small_file(tmp_path / "other.onnx", *shapes, biased=biased)
    with pytest.raises(WeightsMismatch, match=message):
        load_convolutions(Backwards(), path, example=torch.zeros(1, 3, 8, 8))


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"\x99" * 50)
    with pytest.raises(WeightsMismatch, match="not ONNX"):
        load_convolutions(Backwards(), tmp_path / "x.onnx", example=torch.zeros(1, 3, 8, 8))
