"""Archives as COCO has them."""

import json

from tests.models.data.masked import SIDE
from tests.models.data.pictures import png

UPPER = [[0, 0, SIDE, 0, SIDE, SIDE / 2, 0, SIDE / 2]]
"""The upper half, as a polygon."""
FILE = "annotations.json"


def annotation(at, *, category=7, segmentation=UPPER, **more):
    """Number `at + 100`, of image `at + 10`."""
    return {"id": at + 100, "image_id": at + 10, "category_id": category, "segmentation": segmentation} | more


def document(count=4, **changes):
    """Each picture has its upper half outlined as a cell; ids have gaps."""
    images = [{"id": at + 10, "file_name": f"{at}.png", "width": SIDE, "height": SIDE} for at in range(count)]
    whole = {
        "info": {"year": 2026},
        "images": images,
        "annotations": [annotation(at) for at in range(count)],
        "categories": [{"id": 7, "name": "cell"}, {"id": 40, "name": "nucleus"}],
    }
    return whole | changes


def contents(told, *, count=4, file=FILE, folder="images/"):
    """Pictures, and the JSON beside their folder."""
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return {file: text} | {f"{folder}{at}.png": png(at, side=SIDE) for at in range(count)}
