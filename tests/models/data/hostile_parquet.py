"""Hostile Parquet files, one maker per trick."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from tests.models.data.hostile_parts import Hostile
from tests.models.data.pictures import png


def _parquet(images, labels, **options):
    return _written(pa.table({"image": pa.array(images, pa.binary()), "label": labels}), **options)


def _written(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def parquet_ratio_bomb(rng):
    data = _parquet([bytes(rng.randint(1 << 20, 2 << 20)), png(1)], [0, 1], compression="zstd")
    return Hostile(data, "unpack")


def _repeated(values, kind):
    """A column of 290 rows that names its few values again and again; small here, too."""
    indices = pa.array([row % len(values) for row in range(290)], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, kind))


def parquet_image_repeated_without_end(rng):
    image = b"BM" + bytes(12) + rng.randbytes(200_000)
    table = pa.table({"image": _repeated([image], pa.binary()), "label": [0, 1] * 145})
    data = _written(table, store_schema=False)
    assert len(data) < 300_000
    return Hostile(data, "BMP|says it is|has .* pixels", "upload")


def parquet_label_repeated_without_end(rng):
    words = _repeated([rng.randbytes(50_000).hex(), "dogs"], pa.string())
    data = _written(pa.table({"image": [png(1)] * 290, "label": words}), store_schema=False)
    assert len(data) < 400_000
    return Hostile(data, "too long", "upload")


def parquet_too_many_rows(rng):
    rows = rng.randint(301, 900)
    return Hostile(_parquet([b""] * rows, [0] * rows), "rows")


def parquet_too_many_columns(rng):
    columns = {f"c{n}": [0] for n in range(rng.randint(1001, 1100))}
    return Hostile(_written(pa.table(columns)), "columns")


def parquet_of_paths_outside(rng):
    path = "../" * rng.randint(1, 9) + "etc/passwd"
    return Hostile(_written(pa.table({"image": [path, "/etc/passwd"], "label": [0, 1]})), "paths, not images")


def parquet_damaged_footer(rng):
    whole = bytearray(_parquet([png(1), png(2)], [0, 1]))
    for _ in range(30):
        whole[-rng.randint(9, 400)] = rng.randrange(256)
    return Hostile(bytes(whole), "damaged|column|bytes|empty|class|two|not an image|unpacks|rows")


def parquet_truncated(rng):
    whole = _parquet([png(1), png(2)], [0, 1])
    return Hostile(whole[: rng.randint(8, len(whole) - 1)], "damaged")
