"""Every image decoded once, on a few threads: the decoders run without the GIL."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from models.data.listing import Entry
from models.tasks.image_facts import ImageError, ImageLimits
from models.tasks.images import read_header, stored_pixels

_BATCH_IMAGES, _BATCH_BYTES = 32, 2 << 20


class Fault(NamedTuple):
    """What an ImageError said. The error itself would keep the image in memory, by its traceback."""

    message: str
    hint: str | None


class Checked(NamedTuple):
    """What came of an image."""

    entry: Entry
    size: int
    """Bytes."""
    sha256: str
    width: int
    """Stored, pixels."""
    height: int
    fault: Fault | None
    """Why it is no picture; then its sides are 0."""
    is_lying: bool = False
    """As seen, its sides change places."""


def check_images(
    images: Iterable[tuple[Entry, bytes]], limits: ImageLimits, *, threads: int
) -> Iterator[Checked]:
    """Decode each, in order. A bounded number of images is in memory at a time."""
    waiting: deque[Future[list[Checked]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="check-images") as pool:
        try:
            for batch in _batches(images):
                waiting.append(pool.submit(_check_batch, batch, limits))
                if len(waiting) > 2 * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _batches(images: Iterable[tuple[Entry, bytes]]) -> Iterator[list[tuple[Entry, bytes]]]:
    """Together, small images cost the threads less than one by one."""
    batch: list[tuple[Entry, bytes]] = []
    size = 0
    for entry, data in images:
        batch.append((entry, data))
        size += len(data)
        if len(batch) == _BATCH_IMAGES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_batch(batch: Sequence[tuple[Entry, bytes]], limits: ImageLimits) -> list[Checked]:
    return [_check(entry, data, limits) for entry, data in batch]


def _check(entry: Entry, data: bytes, limits: ImageLimits) -> Checked:
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        if not data:
            raise ImageError("image_undecodable", "It is empty.", hint="Put the image in, or leave it out.")
        header = read_header(data, limits)
        # A JPEG's data are read to their end at any scale; the smallest takes the least time.
        stored_pixels(data, header, at_least=(1, 1))
    except ImageError as error:
        return Checked(entry, len(data), sha256, 0, 0, Fault(error.message, error.hint))
    is_lying = header.orientation >= 5
    return Checked(entry, len(data), sha256, header.width, header.height, None, is_lying)
