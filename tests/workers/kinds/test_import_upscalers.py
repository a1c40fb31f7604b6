"""waifu2x and Real-ESRGAN come in from ncnn's files, and make photographs larger better than resampling
does."""

from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from models.build.ncnn_weights import load_ncnn
from models.build.rrdbnet import RRDBNet
from models.build.timm_ import WeightsMismatch
from models.build.upconv7 import UpConv7
from models.export.parity import ParityError, verify
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, REFERENCE_FILE, Level, Task, TileFacts
from models.starters import STARTERS
from models.tasks.tiles import TileGrid, tiled
from tests.importing import imports_in

UPSCALERS = [name for name, row in STARTERS.items() if row.task is Task.SUPER_RESOLUTION]
SIX = [
    *(
        files("skimage") / "data" / f"{name}.png"
        for name in ("astronaut", "chelsea", "coffee", "motorcycle_left")
    ),
    *(files("sklearn.datasets") / "images" / f"{name}.jpg" for name in ("china", "flower")),
]


def test_there_are_six():
    assert len(UPSCALERS) == len(SIX) == 6


@pytest.fixture(scope="module")
def imports(tmp_path_factory):
    return imports_in(tmp_path_factory.mktemp("upscalers") / "data")


@pytest.fixture(scope="module")
def photo_upscaler(first_start):
    return first_start.starter("waifu2x-photo")


@pytest.fixture(scope="module")
def session(photo_upscaler):
    return ServedSession(photo_upscaler.artifacts[MODEL_FILE], threads=2)


def check(publication):
    certificate = publication.certificate
    assert certificate.level is Level.CERTIFIED
    assert certificate.reference_by.startswith("ncnn 1.0.")
    assert certificate.agreement.samples == 2
    assert certificate.agreement.max_abs < 1e-4
    assert certificate.agreement.drift < 1e-5
    assert publication.manifest.outputs[0].shape == (-1, 3, -1, -1)


def test_it_is_certified_against_what_ncnn_computes(photo_upscaler):
    check(photo_upscaler)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in UPSCALERS if name != "waifu2x-photo"])
def test_so_is_each_of_the_others(imports, name):
    check(imports.run({"source": f"starter:{name}", "name": name}).publish)


def test_its_certificate_is_computed_again_and_other_tiles_are_noticed(photo_upscaler):
    model, reference = (photo_upscaler.artifacts[name] for name in (MODEL_FILE, REFERENCE_FILE))
    again = verify(model, photo_upscaler.manifest, reference, against=photo_upscaler.certificate)
    assert again.agreement == photo_upscaler.certificate.agreement
    other = TileFacts(scale=2, side=128, margin=7, context=1)
    changed = photo_upscaler.manifest.model_copy(update={"tiles": other})
    with pytest.raises(ParityError, match="outputs, the reference has"):
        verify(model, changed, reference)


def luma(pixels):
    """BT.601, 16..235."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def psnr_y(one, other, border=2):
    inner = slice(border, -border)
    error = np.mean((luma(one) - luma(other))[inner, inner] ** 2)
    return 10 * np.log10(255**2 / error)


def halves(path):
    """A photograph, half as large by Pillow's bicubic, and that enlarged again likewise."""
    whole = Image.open(path).convert("RGB")
    whole = whole.crop((0, 0, whole.width // 24 * 24, whole.height // 24 * 24))
    half = whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.BICUBIC)
    return np.asarray(whole), np.asarray(half), np.asarray(half.resize(whole.size, Image.Resampling.BICUBIC))


def through(pixels, session, tiles):
    grid = TileGrid(*pixels.shape[:2], tiles)
    return np.concatenate(list(tiled(pixels, grid, session.run)))


def test_on_six_photographs_it_is_2_5_db_better_than_bicubic(photo_upscaler, session):
    ours, bicubic = [], []
    for path in SIX:
        whole, half, resampled = halves(path)
        ours.append(psnr_y(through(half, session, photo_upscaler.manifest.tiles), whole))
        bicubic.append(psnr_y(resampled, whole))
    assert np.mean(ours) >= 33.6
    assert np.mean(bicubic) <= 31.3


def test_in_windows_it_is_what_it_is_in_one_piece(photo_upscaler, session):
    _, half, _ = halves(SIX[2])
    whole_facts = photo_upscaler.manifest.tiles.model_copy(update={"side": 2048})
    whole = through(half, session, whole_facts).astype(int)
    tiled_ = through(half, session, photo_upscaler.manifest.tiles).astype(int)
    assert np.abs(whole - tiled_).max() <= 1


def test_weights_that_do_not_fit_are_refused(tmp_path, photo_upscaler):
    import torch

    example = torch.zeros(1, 3, 48, 48)
    whole = photo_upscaler.source.read_bytes()
    for data, problem in (
        (whole[:-5], "ends before"),
        (whole + b"four", "4 bytes more"),
        (b"\1\2\3\4" + whole[4:], "not known"),
    ):
        path = tmp_path / "weights.bin"
        path.write_bytes(data)
        with pytest.raises(WeightsMismatch, match=problem):
            load_ncnn(UpConv7(), path, example=example)
    path.write_bytes(whole)
    with pytest.raises(WeightsMismatch):
        load_ncnn(RRDBNet(blocks=1), path, example=example)
