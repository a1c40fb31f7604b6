"""How long one run may take is a setting: batches and windows are made to fit it."""

import pytest

from app.runtime.loader import _within
from app.runtime.plan import Plan
from models.manifest import Manifest, Preprocessing, Task, TileFacts


def manifest(tiles=None):
    preprocessing = tiles.preprocessing if tiles else Preprocessing(height=224, width=224)
    return Manifest(
        task=Task.SUPER_RESOLUTION if tiles else Task.CLASSIFICATION,
        inputs=(),
        outputs=(),
        preprocessing=preprocessing,
        labels=(),
        tiles=tiles,
    )


def test_a_batch_is_made_smaller_until_its_run_fits():
    plan = Plan(lanes=2, threads=1, batch=8, images_per_s=20)  # 0.8 s for a batch of 8 on each lane
    assert _within(manifest(), plan, 1.0)[1].batch == 8
    assert _within(manifest(), plan, 0.35)[1].batch == 3
    assert _within(manifest(), plan, 0.01)[1].batch == 1


def test_a_plan_that_nobody_measured_stays():
    plan = Plan(lanes=2, threads=1, batch=8)
    assert _within(manifest(), plan, 0.001)[1] == plan


@pytest.mark.parametrize(("longest_s", "side"), [(4.0, 64), (1.0, 32), (0.5, 16), (0.01, 16)])
def test_windows_are_made_smaller_when_one_alone_takes_too_long(longest_s, side):
    tiles = TileFacts(scale=4, side=64, context=8, overlap=8)
    plan = Plan(lanes=1, threads=2, batch=1, images_per_s=0.4)  # 2.5 s for a window of 80 x 80
    fitted, fitted_plan = _within(manifest(tiles), plan, longest_s)
    assert fitted.tiles.side == side
    assert fitted.preprocessing.height == fitted.preprocessing.width == side + 16
    if longest_s >= 0.5:
        assert fitted_plan.run_s() <= longest_s
