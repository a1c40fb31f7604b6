"""What cannot become a picture is refused, with the code that says why; nothing else ever comes out."""

import resource
from collections import Counter
from io import BytesIO

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from models.tasks.images import ImageError, ImageLimits, decode_image, probe_image
from tests.corpus.flag import Sample, flag, flag_jpeg, saved, srgb_profile
from tests.corpus.malformed import malformed_images
from tests.corpus.valid import valid_images

LIMITS = ImageLimits()


def outcome(sample: Sample) -> str:
    """The code of the refusal, or `ok` for a sound picture of the size its header told."""
    try:
        pixels = decode_image(sample.data, limits=LIMITS)
    except ImageError as refusal:
        return refusal.code
    facts = probe_image(sample.data, LIMITS)
    assert pixels.shape == (facts.height, facts.width, 3)
    assert pixels.dtype == np.uint8
    return "ok"


def passes_the_header(data: bytes) -> bool:
    try:
        probe_image(data, LIMITS)
    except ImageError:
        return False
    return True


@pytest.mark.filterwarnings("ignore::UserWarning")  # as in service: Pillow warns about odd TIFF tags
def test_two_thousand_malformed_images_are_refused_or_decoded_and_leave_no_memory_behind() -> None:
    rss_bytes = psutil.Process().memory_info().rss
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    passing = 0

    for sample in malformed_images(seed=20, count=2_000):
        outcomes[outcome(sample)] += 1
        passing += passes_the_header(sample.data)

    assert outcomes.total() == 2_000
    assert set(outcomes) == {"ok", "image_undecodable", "image_too_large", "unsupported_media"}
    assert outcomes["image_undecodable"] > 1_000 > outcomes["ok"] > 200, outcomes
    assert passing >= 1_000
    # Many claim more than 40 megapixels; none that lies about it may have been given their memory.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < 500 << 10
    assert psutil.Process().memory_info().rss - rss_bytes < 60 << 20


def test_the_same_seed_gives_the_same_malformed_images() -> None:
    first, second = (list(malformed_images(seed=3, count=200)) for _ in range(2))

    assert first == second
    assert first != list(malformed_images(seed=4, count=200))


@pytest.mark.parametrize(
    "kind",
    [
        "jpeg 420",
        "jpeg progressive",
        "jpeg cmyk",
        "png rgb",
        "webp lossless",
        "webp lossy",
        "gif",
        "bmp 24 bits",
        "tiff raw",
    ],
)
def test_a_truncated_image_is_refused_wherever_it_is_cut(kind: str) -> None:
    (whole,) = (sample.data for sample in valid_images(seed=0) if sample.kind == kind)
    assert decode_image(whole, limits=LIMITS).size

    # The last bytes of a WebP and a GIF say no more than that it ends.
    for cut in range(1, len(whole) - 4, max(1, len(whole) // 150)):
        with pytest.raises(ImageError):
            decode_image(whole[:cut], limits=LIMITS)


def test_a_flipped_bit_in_a_png_is_always_found() -> None:
    whole = bytearray(saved(flag(), "PNG"))

    for at in range(8, len(whole) - 12, 3):
        whole[at] ^= 0x10
        with pytest.raises(ImageError):
            decode_image(bytes(whole), limits=LIMITS)
        whole[at] ^= 0x10


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
        (b"\0\0\0\x18ftypavif" + bytes(50), "AVIF"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7\n" + flag_jpeg(), "PDF"),
        (b"PK\x03\x04" + bytes(50), "ZIP"),
        (b"just text", "known format"),
        (b"", "known format"),
    ],
)
def test_another_format_is_named_and_the_hint_says_what_to_send(data: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=name) as refusal:
        decode_image(data, limits=LIMITS)

    assert refusal.value.code == "unsupported_media"
    assert refusal.value.hint is not None
    assert all(word in refusal.value.hint for word in ("JPEG", "TIFF", "HEIC", "AVIF", "SVG", "PDF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_the_pixel_limit_holds_for_every_format_before_decoding(kind: str) -> None:
    data = saved(Image.new("RGB", (100, 80)), kind)

    assert probe_image(data, ImageLimits(max_pixels=8_000)).width == 100
    for read in (decode_image, probe_image):
        with pytest.raises(ImageError, match="100 x 80") as refusal:
            read(data, limits=ImageLimits(max_pixels=7_999))
        assert refusal.value.code == "image_too_large"


@pytest.mark.parametrize("dtype", ["float32", "uint32", "float16"])
def test_samples_without_an_agreed_white_are_refused(dtype: str) -> None:
    buffer = BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 9), dtype))

    with pytest.raises(ImageError) as refusal:
        decode_image(buffer.getvalue(), limits=LIMITS)

    assert refusal.value.code == "unsupported_media"


def test_a_profile_of_another_device_class_is_ignored() -> None:
    odd = srgb_profile().replace(b"mntrRGB XYZ ", b"mntrLab XYZ ")
    data = flag_jpeg(icc_profile=odd)

    np.testing.assert_array_equal(decode_image(data, limits=LIMITS), decode_image(flag_jpeg(), limits=LIMITS))
