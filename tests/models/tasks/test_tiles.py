"""Pictures of any size in windows: what comes out is what the whole would give."""

import numpy as np
import pytest

from models.manifest import TileFacts
from models.tasks.tiles import RowBlender, Stand, TileGrid, tiled, to_bytes

VALID = TileFacts(scale=2, side=32, margin=3)
"""Of a network that pads nothing."""
BLENDED = TileFacts(scale=2, side=32, context=4, overlap=8)
"""Of one that pads."""
SIZES = [(1, 1), (7, 5), (32, 32), (33, 31), (32, 200), (100, 33), (97, 131), (250, 64)]
RANDOM = np.random.default_rng(3)


def photo(height, width):
    return RANDOM.integers(0, 256, (height, width, 3), np.uint8)


def doubled(batch):
    """A network that repeats each pixel."""
    shares = batch.transpose(0, 3, 1, 2).astype(np.float32) / 255
    return shares.repeat(2, 2).repeat(2, 3)


def cropped(margin):
    """The same, of a network that takes a margin off."""
    return lambda batch: doubled(batch[:, margin:-margin, margin:-margin])


def through(pixels, facts, run):
    return np.concatenate(list(tiled(pixels, TileGrid(*pixels.shape[:2], facts), run)))


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_of_any_size_comes_out_whole(size):
    pixels = photo(*size)
    expected = pixels.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(through(pixels, VALID, cropped(3)), expected)
    assert np.array_equal(through(pixels, BLENDED, doubled), expected)


@pytest.mark.parametrize("facts", [VALID, BLENDED])
@pytest.mark.parametrize("size", SIZES)
def test_the_weights_of_all_pieces_sum_to_one_everywhere(size, facts):
    grid = TileGrid(*size, facts)
    sums = np.zeros(grid.result_size)
    for row, by_row in enumerate(grid.row_weights):
        for column, by_column in enumerate(grid.column_weights):
            top, left = grid.place(row, column)
            sums[top : top + len(by_row), left : left + len(by_column)] += by_row[:, None] * by_column
    assert np.allclose(sums, 1, atol=1e-6)


def test_windows_are_no_larger_than_their_network_s_and_mostly_not_padding():
    shares = []
    for pixels in range(160, 2049, 13):
        grid = TileGrid(pixels, pixels, TileFacts(scale=2, side=128, margin=7))
        height, width = grid.window_size
        assert height <= 142
        assert width <= 142
        shares.append((pixels / ((height - 14) * grid.rows)) ** 2)
    assert min(shares) > 0.7
    assert np.mean(shares) > 0.9


def test_beyond_the_border_the_picture_goes_on_with_its_border():
    pixels = photo(20, 20)
    window = TileGrid(20, 20, VALID).window(pixels, 0, 0)
    assert window.shape == (38, 38, 3)
    assert np.array_equal(window[3:23, 3:23], pixels)
    assert (window[:3, 3:23] == pixels[0]).all()
    assert (window[23:, 3:23] == pixels[-1]).all()


def test_neighbours_that_disagree_meet_without_a_seam():
    grid = TileGrid(32, 120, BLENDED)
    blender = RowBlender(grid)
    height, width = grid.window_size
    for column in range(grid.columns):
        blender.add(0, column, np.full((height * 2, width * 2, 3), column / (grid.columns - 1), np.float32))
    line = to_bytes(blender.finish(0))[0, :, 0].astype(int)
    assert line[0] == 0
    assert line[-1] == 255
    assert (np.diff(line) >= 0).all()
    # Half a level of difference between neighbours, over the 16 pixels of the result that they share.
    assert np.diff(line).max() <= 255 / (grid.columns - 1) / 16 + 1


def test_rows_are_given_out_as_soon_as_nothing_changes_them():
    pixels = photo(100, 40)
    grid = TileGrid(100, 40, BLENDED)
    strips = [len(strip) for strip in tiled(pixels, grid, doubled)]
    assert len(strips) == grid.rows > 2
    assert sum(strips) == 200
    assert max(strips) <= 64


def test_pieces_of_the_next_row_may_come_before_a_row_is_finished():
    pixels = photo(60, 20)
    grid = TileGrid(60, 20, BLENDED)
    blender = RowBlender(grid)
    assert grid.rows == 3
    for row in (1, 0):
        blender.add(row, 0, doubled(grid.window(pixels, row, 0)[None])[0].transpose(1, 2, 0))
    first = to_bytes(blender.finish(0))
    blender.add(2, 0, doubled(grid.window(pixels, 2, 0)[None])[0].transpose(1, 2, 0))
    rest = [to_bytes(blender.finish(row)) for row in (1, 2)]
    assert np.array_equal(np.concatenate([first, *rest]), pixels.repeat(2, 0).repeat(2, 1))


class LeaveOff(Exception):
    pass


@pytest.mark.parametrize("facts", [VALID, BLENDED])
def test_it_goes_on_with_the_window_that_it_left_off_before(facts):
    pixels = photo(100, 90)
    grid = TileGrid(100, 90, facts)
    run = doubled if facts is BLENDED else cropped(3)
    whole = through(pixels, facts, run)
    assert grid.rows * grid.columns >= 12
    for last in range(grid.rows * grid.columns):
        left = last

        def look():
            nonlocal left
            if left == 0:
                left = -1
                raise LeaveOff
            left -= 1

        stand, strips = Stand(), []
        with pytest.raises(LeaveOff):
            strips.extend(tiled(pixels, grid, run, before_each=look, stand=stand))
        assert (stand.row, stand.column) == divmod(last, grid.columns)
        strips += tiled(pixels, grid, run, before_each=look, stand=stand)
        assert np.array_equal(np.concatenate(strips), whole)
