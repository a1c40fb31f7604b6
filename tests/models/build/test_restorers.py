"""Networks that enlarge pictures: their sizes, how far they see, and that their graphs compute the same."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from models.build.network import CannotBuild, build_restorer, head_of, tiles_of
from models.build.restorers import Cubic
from models.catalogue import CATALOGUE, Kind
from models.catalogue.architectures import ARCHITECTURES, of_network
from models.export.eager import hold_against_eager, run_eager
from models.export.onnx import Origin, export_restorer
from models.export.served import ServedSession
from models.manifest import Task
from models.tasks.tiles import TileGrid, tiled

ROWS = {row.id: row for row in ARCHITECTURES if Task.SUPER_RESOLUTION in row.tasks}
SIZES = [(name, scale) for name, row in ROWS.items() for scale in row.scales]
TINY = {
    "srcnn": ("srcnn", 3),
    "fsrcnn": ("fsrcnn_small", 2),
    "espcn": ("espcn", 4),
    "vdsr": ("vdsr_small", 4),
    "edsr": ("edsr_tiny", 3),
    "upconv7": ("upconv7", 2),
}
SEEN = [size for size in SIZES if size[0] not in {"vdsr", "edsr"}]
"""Without those whose smaller siblings count in the same way."""
PARAMETERS = {"srcnn": 20_099, "fsrcnn": 24_683, "fsrcnn_small": 10_872, "espcn": 26_796, "edsr": 1_369_859}
"""At a scale of 2, counted by hand from the papers' layers with three colours in and out."""


def test_the_rows_are_here():
    assert len(ROWS) == 11
    assert len(SIZES) == 31
    assert len(SEEN) == 25
    assert {row.family for row in ROWS.values()} == set(TINY)
    assert all(of_network(name) is row for name, row in ROWS.items())
    assert CATALOGUE.find(kind=Kind.ARCHITECTURE, task=Task.SUPER_RESOLUTION) == list(ROWS.values())


@pytest.mark.parametrize(("name", "scale"), SIZES)
def test_a_network_enlarges_as_often_as_it_says(name, scale):
    row = ROWS[name]
    with torch.device("meta"):
        network = build_restorer(row, scale=scale)
        tiles = tiles_of(network, scale)
        made = network(torch.zeros(2, 3, 40, 48))
    assert made.shape == (2, 3, *(scale * (side - 2 * tiles.margin) for side in (40, 48)))
    head = network.get_submodule(head_of(network))
    assert isinstance(head, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    assert row.why_not_side(row.image_size) is None
    assert all(row.side_multiple % one == 0 for one in row.scales)


@pytest.mark.parametrize(("name", "scale"), SEEN)
def test_a_network_sees_as_far_as_it_says(name, scale):
    network = build_restorer(ROWS[name], scale=scale, seed=3)
    tiles = tiles_of(network, scale)
    for weight in network.get_submodule(head_of(network)).parameters():
        torch.nn.init.normal_(weight, std=0.1)  # some begin at zero
    assert tiles.surround - 1 <= reach_of(network, tiles, scale) <= tiles.surround


def reach_of(network, tiles, scale):
    """How far from its own place the furthest pixel is that a result's slopes reach."""
    around = tiles.surround + 3
    pixels = torch.rand(1, 3, 2 * around + 1, 2 * around + 1).double().requires_grad_()
    results = network.double()(pixels)
    first = scale * (around - tiles.margin)
    (slopes,) = torch.autograd.grad(results[..., first : first + scale, first : first + scale].sum(), pixels)
    rows = np.flatnonzero(slopes[0].abs().sum(dim=(0, 2)).numpy())
    network.float()
    return int(max(around - rows.min(), rows.max() - around))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_is_as_large_as_its_paper_says(name):
    network = build_restorer(ROWS[name], scale=2)
    assert sum(weight.numel() for weight in network.parameters()) == PARAMETERS[name]


def test_a_scale_that_a_network_cannot_have_is_refused():
    with pytest.raises(CannotBuild, match="upconv7 enlarges 2 times, not 3"):
        build_restorer(ROWS["upconv7"], scale=3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_cubic_interpolation_is_pillows(scale):
    levels = np.random.default_rng(0).random((20, 24)).astype(np.float32)
    expected = Image.fromarray(levels).resize((24 * scale, 20 * scale), Image.Resampling.BICUBIC)
    made = Cubic(scale)(torch.from_numpy(levels).expand(1, 3, 20, 24))[0, 1].numpy()
    inside = np.s_[2 * scale : -2 * scale, 2 * scale : -2 * scale]
    np.testing.assert_allclose(made[inside], np.asarray(expected)[inside], atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_of_levels_that_overshoot_nothing_it_is_within_one_of_pillows(scale):
    levels = np.random.default_rng(0).integers(80, 176, (20, 24), dtype=np.uint8)
    expected = Image.fromarray(levels).resize((24 * scale, 20 * scale), Image.Resampling.BICUBIC)
    made = Cubic(scale)(torch.from_numpy(levels).float().expand(1, 3, 20, 24))[0, 1].numpy()
    inside = np.s_[2 * scale : -2 * scale, 2 * scale : -2 * scale]
    assert np.abs(np.rint(made[inside]) - np.asarray(expected)[inside]).max() <= 1


@pytest.mark.parametrize("family", TINY)
def test_of_each_family_one_learns_and_its_graph_computes_the_same(family, tmp_path):
    name, scale = TINY[family]
    row, path = ROWS[name], tmp_path / "model.onnx"
    network = build_restorer(row, scale=scale, seed=1)
    tiles = tiles_of(network, scale)
    losses = learn(network, tiles)
    manifest = export_restorer(network, tiles, path, origin=Origin(architecture=row.id))
    session = ServedSession(path)
    session.check(manifest)
    chance = np.random.default_rng(0)
    for count, height, width in ((1, 48, 64), (3, 64, 40)):
        images = chance.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        hold_against_eager(session.run, network, tiles.preprocessing, images)

    assert losses[-1] < 0.7 * losses[0]


def learn(network, tiles):
    """Smooth patches, by heart."""
    side = 12 + 2 * tiles.margin
    small = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    small = functional.interpolate(small, (side, side), mode="bilinear")
    wanted = functional.interpolate(small, scale_factor=tiles.scale, mode="bilinear").square()
    cut = tiles.margin * tiles.scale
    wanted = wanted[..., cut : wanted.shape[-2] - cut, cut : wanted.shape[-1] - cut]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        loss = functional.l1_loss(network.train()(small), wanted)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    network.eval()
    return losses


@pytest.mark.parametrize("family", TINY)
def test_windows_make_what_the_whole_picture_makes(family):
    """Beyond what a picture's border reaches, where the whole is padded with zeros."""
    name, scale = TINY[family]
    network = build_restorer(ROWS[name], scale=scale, seed=1)
    tiles = tiles_of(network, scale).model_copy(update={"side": 32})
    pixels = np.random.default_rng(4).integers(0, 256, (72, 80, 3), dtype=np.uint8)
    grid = TileGrid(72, 80, tiles)
    assert grid.rows * grid.columns == 9

    def run(windows):
        return run_eager(network, tiles.preprocessing, windows)

    rows = np.concatenate(list(tiled(pixels, grid, run)))
    around = np.pad(pixels, ((tiles.surround,) * 2, (tiles.surround,) * 2, (0, 0)), mode="edge")
    whole = run(around[None])[0].transpose(1, 2, 0)
    cut = tiles.context * scale
    whole = whole[cut : whole.shape[0] - cut, cut : whole.shape[1] - cut]
    levels = np.clip(np.rint(whole * 255), 0, 255)
    assert rows.shape == levels.shape == (72 * scale, 80 * scale, 3)
    assert np.abs(rows.astype(int) - levels).max() <= 1
