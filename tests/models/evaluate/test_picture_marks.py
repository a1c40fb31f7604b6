"""Marks of made pictures against their formulas, written out pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from models.evaluate.crops import SIDE, crops_of, hardest
from models.evaluate.picture_marks import HIGHEST_PSNR, PictureTally, cubic, luminance, marks, psnr


def pictures(*, height=30, width=26, noise=20, seed=0):
    chance = np.random.default_rng(seed)
    wanted = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(wanted).resize((width, height), Image.Resampling.BOX))
    made = np.clip(wanted + chance.normal(0, noise, wanted.shape), 0, 255).astype(np.uint8)
    return made, wanted


def written_psnr(made, wanted, border):
    total, count = 0.0, 0
    for row in range(border, wanted.shape[0] - border):
        for column in range(border, wanted.shape[1] - border):
            ys = [
                16 + 65.481 * r / 255 + 128.553 * g / 255 + 24.966 * b / 255
                for r, g, b in (map(float, made[row, column]), map(float, wanted[row, column]))
            ]
            total, count = total + (ys[0] - ys[1]) ** 2, count + 1
    return 10 * np.log10(255**2 / (total / count))


def written_ssim(made, wanted, border):
    one, other = (
        luminance(pixels)[border : pixels.shape[0] - border, border : pixels.shape[1] - border]
        for pixels in (made, wanted)
    )
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(one.shape[0] - 10):
        for column in range(one.shape[1] - 10):
            x, y = one[row : row + 11, column : column + 11], other[row : row + 11, column : column + 11]
            mean_x, mean_y = (window * x).sum(), (window * y).sum()
            spread_x = (window * (x - mean_x) ** 2).sum()
            spread_y = (window * (y - mean_y) ** 2).sum()
            both = (window * (x - mean_x) * (y - mean_y)).sum()
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            above = (2 * mean_x * mean_y + c1) * (2 * both + c2)
            values.append(above / ((mean_x**2 + mean_y**2 + c1) * (spread_x + spread_y + c2)))
    return np.mean(values)


@pytest.mark.parametrize("border", [0, 2, 4])
def test_marks_are_their_formulas(border):
    made, wanted = pictures()
    found = marks(made, wanted, border=border)
    assert found.psnr == pytest.approx(written_psnr(made, wanted, border), abs=1e-9)
    assert found.psnr == psnr(made, wanted, border=border)
    assert found.ssim == pytest.approx(written_ssim(made, wanted, border), abs=1e-9)


def test_tall_pictures_are_marked_in_strips_as_if_whole():
    made, wanted = pictures(height=1100, width=14)
    found = marks(made, wanted, border=1)
    assert found.psnr == pytest.approx(written_psnr(made, wanted, 1), abs=1e-9)
    assert found.ssim == pytest.approx(written_ssim(made, wanted, 1), abs=1e-9)


def test_the_same_picture_has_the_best_marks_and_noise_costs_some():
    _, wanted = pictures()
    assert marks(wanted, wanted, border=2) == (HIGHEST_PSNR, 1.0)
    little, much = (marks(pictures(noise=noise)[0], wanted, border=2) for noise in (2, 30))
    assert little.psnr > much.psnr + 10
    assert little.ssim > much.ssim
    tiny = wanted[:12, :12]
    assert marks(tiny, tiny, border=2).ssim == 1.0


def test_the_border_does_not_count():
    _, wanted = pictures()
    made = wanted.copy()
    made[:2] = made[-2:] = made[:, :2] = made[:, -2:] = 0
    assert marks(made, wanted, border=2).psnr == HIGHEST_PSNR
    assert marks(made, wanted, border=1).psnr < 40


def test_pictures_are_listed_by_what_they_gain_over_cubic_interpolation():
    tally, chance = PictureTally(2), np.random.default_rng(1)
    for index, noise in enumerate((30, 1, 10)):
        small = chance.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        plain = cubic(small, 2)
        wanted = np.clip(plain + chance.normal(0, 10, plain.shape), 0, 255).astype(np.uint8)
        made = np.clip(wanted + chance.normal(0, noise, plain.shape), 0, 255).astype(np.uint8)
        tally.add(made, wanted, small, name=f"{index}.png")
    found = tally.evaluation(listed=2)
    assert [sample.name for sample in found.worst] == ["0.png", "2.png"]
    assert [sample.name for sample in found.best] == ["1.png", "2.png"]
    assert found.worst[0].gain < 0 < found.best[0].gain
    assert found.gain == pytest.approx(found.psnr - found.cubic_psnr)
    assert (found.samples, found.scale) == (3, 2)
    assert 0 < found.mean_error < 0.1
    with pytest.raises(ValueError, match="no picture"):
        PictureTally(2).evaluation()


def test_the_part_that_is_shown_is_where_cubic_interpolation_is_worst():
    wanted = np.full((200, 240, 3), 90, np.uint8)
    chance = np.random.default_rng(0)
    wanted[100:180, 140:220] = chance.integers(0, 256, (80, 80, 3), dtype=np.uint8)
    small = np.asarray(Image.fromarray(wanted).resize((120, 100), Image.Resampling.BICUBIC))
    top, left = hardest(wanted, cubic(small, 2))
    assert top <= 100
    assert top + SIDE >= 180
    assert left <= 140
    assert left + SIDE >= 220
    sheet = crops_of(small, cubic(small, 2), wanted, 2)
    assert sheet.startswith(b"\xff\xd8")
    tiny = wanted[:40, :48]
    assert hardest(tiny, tiny) == (0, 0)
