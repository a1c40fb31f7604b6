"""Somebody's own graph that takes windows of any size: what is found out about it, what is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.errors import ImportRefused, InvalidRequest
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, Level, Task
from models.tasks.tiles import TileGrid, blended
from tests.importing import imports_in


@pytest.fixture
def imports(tmp_path):
    return imports_in(tmp_path / "data")


def graph(*, pad=0, kernel=5, scale=2, sides=("h", "w"), channels=3, gain=1.0, reshape=None):
    """A mean of 5 x 5 pixels, or so many, of each channel, padded or not, and each pixel repeated."""
    weight = np.zeros((channels, 3, kernel, kernel), np.float32)
    weight[range(channels), [index % 3 for index in range(channels)]] = gain / kernel**2
    more = [numpy_helper.from_array(weight, "weight")]
    nodes = [helper.make_node("Conv", ["pixels", "weight"], ["mean"], pads=[pad] * 4)]
    if reshape is not None:
        nodes = [helper.make_node("AveragePool", ["pixels"], ["mean"], kernel_shape=[4, 4], strides=[4, 4])]
    more.append(numpy_helper.from_array(np.float32([1, 1, scale, scale]), "scales"))
    nodes.append(helper.make_node("Resize", ["mean", "", "scales"], ["made"], mode="nearest"))
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, *sides])],
        [helper.make_tensor_value_info("made", TensorProto.FLOAT, ["n", channels, "rows", "columns"])],
        more,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def order(imports, data, *, task="super-resolution", **manifest):
    usage = {"height": 96, "width": 96, "std": 255.0, "fit": "tiles", **manifest}
    return {"source": f"file:{imports.upload(data)}", "name": "mine", "task": task, "manifest": usage}


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_scale_and_margin_are_found_by_running_it(imports, scale):
    publication = imports.run(order(imports, graph(scale=scale))).publish
    manifest, tiles = publication.manifest, publication.manifest.tiles
    assert manifest.task is Task.SUPER_RESOLUTION
    assert (tiles.scale, tiles.margin, tiles.context, tiles.overlap) == (scale, 2, 0, 0)
    assert (tiles.side, manifest.preprocessing.height) == (80, 84)
    assert manifest.inputs[0].shape == (-1, -1, -1, 3)
    assert (manifest.outputs[0].name, manifest.outputs[0].shape) == ("pixels", (-1, 3, -1, -1))
    assert publication.certificate.level is Level.IMPORTED
    window = np.full((2, 30, 40, 3), 51, np.uint8)
    pixels = ServedSession(publication.artifacts[MODEL_FILE]).run(window)
    assert pixels.shape == (2, 3, 26 * scale, 36 * scale)
    assert np.allclose(pixels, 0.2, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "asked", "cut"),
    [
        (1, {}, (0, 0, 96)),
        (5, {}, (8, 0, 80)),
        (17, {}, (8, 0, 80)),
        (19, {}, (16, 0, 64)),
        (25, {}, (16, 0, 64)),
        (27, {}, (12, 6, 64)),  # sees farther than an eighth of the window
        (5, {"context": 4}, (4, 0, 80)),
        (5, {"context": 1}, (1, 6, 80)),
        (5, {"context": 12, "overlap": 6}, (12, 6, 64)),
    ],
)
def test_a_graph_that_pads_is_shown_as_much_around_its_windows_as_it_sees(imports, kernel, asked, cut):
    data = graph(pad=kernel // 2, kernel=kernel)
    tiles = imports.run(order(imports, data, **asked)).publish.manifest.tiles
    assert (tiles.margin, tiles.context, tiles.overlap, tiles.side) == (0, *cut)


def halving():
    """Means of 2 x 2 pixels, each repeated twice: another picture when the window lies one pixel farther."""
    data = onnx.load_from_string(graph(kernel=1, scale=2))
    data.graph.node[0].CopyFrom(
        helper.make_node("AveragePool", ["pixels"], ["mean"], kernel_shape=[2, 2], strides=[2, 2])
    )
    return data.SerializeToString()


def test_windows_of_a_graph_whose_results_depend_on_where_they_lie_are_blended(imports):
    tiles = imports.run(order(imports, halving())).publish.manifest.tiles
    assert (tiles.scale, tiles.margin, tiles.context, tiles.overlap) == (1, 0, 12, 6)


def test_a_graph_that_takes_no_window_of_the_sizes_that_are_tried_is_shown_an_eighth(imports):
    data = onnx.load_from_string(graph(kernel=1, scale=1))
    pads = numpy_helper.from_array(np.int64([0, 0, 80, 80, 0, 0, 80, 80]), "around")
    data.graph.initializer.append(pads)
    data.graph.node.insert(0, helper.make_node("Pad", ["pixels", "around"], ["wide"], mode="reflect"))
    cut = {"starts": [80, 80], "ends": [-80, -80], "axes": [2, 3]}
    more = [numpy_helper.from_array(np.int64(values), name) for name, values in cut.items()]
    data.graph.initializer.extend(more)
    data.graph.node.insert(1, helper.make_node("Slice", ["wide", *cut], ["again"]))
    data.graph.node[2].input[0] = "again"
    spec = order(imports, data.SerializeToString(), height=128, width=128)
    tiles = imports.run(spec).publish.manifest.tiles
    assert (tiles.context, tiles.overlap, tiles.side) == (16, 8, 96)


def test_of_sides_that_differ_the_smaller_says_how_much_context_is_not_too_much(imports):
    data = graph(pad=20, kernel=41)
    tiles = imports.run(order(imports, data, height=256, width=96)).publish.manifest.tiles
    assert (tiles.context, tiles.overlap, tiles.side) == (12, 6, 64)


def test_windows_larger_than_any_are_made_as_large_as_they_may_be(imports):
    spec = order(imports, graph(kernel=1, scale=1), height=2100, width=2100)
    tiles = imports.run(spec).publish.manifest.tiles
    assert (tiles.context, tiles.side) == (0, 2048)
    with pytest.raises(ImportRefused, match="2048 a side may"):
        imports.run(order(imports, graph(kernel=1, scale=1), height=2100, width=2100, context=0))


def test_a_picture_in_windows_is_the_picture_in_one_where_the_graph_is_shown_all_that_it_sees(imports):
    publication = imports.run(order(imports, graph(pad=4, kernel=9))).publish
    session = ServedSession(publication.artifacts[MODEL_FILE])
    pixels = np.random.default_rng(3).integers(0, 256, (150, 201, 3), np.uint8)
    tiles = publication.manifest.tiles
    grid = TileGrid(150, 201, tiles)
    assert (grid.rows, grid.columns, tiles.overlap) == (2, 3, 0)
    rows = np.concatenate(list(blended(pixels, grid, session.run)))
    around = np.pad(pixels, ((8, 8), (8, 8), (0, 0)), mode="edge")
    whole = session.run(around[None])[0].transpose(1, 2, 0)[16:-16, 16:-16]
    assert rows.shape == whole.shape == (300, 402, 3)
    assert np.abs(rows - whole).max() < 1e-6


def test_a_segmenter_may_take_windows_too(imports):
    labels = ("red", "green")
    data = graph(pad=2, scale=1, channels=2, gain=9.0)
    spec = order(imports, data, task="segmentation", labels=labels)
    manifest = imports.run(spec).publish.manifest
    assert (manifest.task, manifest.labels) == (Task.SEGMENTATION, labels)
    assert manifest.outputs[0].shape == (-1, 2, -1, -1)
    assert manifest.masks.activation == "softmax"
    assert manifest.tiles.scale == 1


REFUSED = [
    (graph(sides=(64, 64)), {}, "windows have many sizes"),
    (graph(sides=("h", 64)), {}, "windows have many sizes"),
    (graph(channels=4), {}, "a picture has 3 channels"),
    (graph(scale=9), {}, "no whole scale"),
    (graph(scale=3, reshape=True), {}, "no whole scale"),
    (graph(gain=255.0), {}, "far beyond 0..1"),
    (graph(pad=2), {"context": 44}, "too little is left"),
    (graph(), {"height": 40, "width": 40}, "too small"),
]


@pytest.mark.parametrize(("data", "manifest", "says"), REFUSED)
def test_what_cannot_be_cut_is_refused_with_the_reason(imports, data, manifest, says):
    with pytest.raises(ImportRefused, match=says) as caught:
        imports.run(order(imports, data, **manifest))
    assert caught.value.hint


def test_maps_smaller_than_the_window_are_refused(imports):
    data = graph(pad=2, scale=2, channels=2, gain=9.0)
    with pytest.raises(ImportRefused, match="maps are 2 times the window"):
        imports.run(order(imports, data, task="segmentation", labels=("a", "b")))


@pytest.mark.parametrize(
    ("task", "manifest", "param"),
    [
        ("super-resolution", {"labels": ("a",)}, "manifest.labels"),
        ("super-resolution", {"fit": "crop"}, "manifest.fit"),
        ("classification", {"labels": ("a", "b")}, "manifest.fit"),
    ],
)
def test_what_makes_no_sense_of_a_task_is_named(imports, task, manifest, param):
    with pytest.raises(InvalidRequest) as caught:
        imports.run(order(imports, graph(), task=task, **manifest))
    assert caught.value.param == param
