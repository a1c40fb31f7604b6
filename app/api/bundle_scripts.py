"""The script in a bundle's README: a few lines that run the model without Athanor, by task."""

from typing import NamedTuple

from models.manifest import MODEL_FILE, Manifest, MaskFacts, Task, TileFacts

_THRESHOLD = 0.5
"""Of shares, as the route has it when nobody says another."""
_STEP = 16
"""What sides of windows are multiples of."""
_MOST_OF_A_BYTE = 254


class Script(NamedTuple):
    """Lines of Python that take a picture's path."""

    name: str
    does: str
    lines: list[str]


def script_of(manifest: Manifest) -> Script:
    """For exactly this version: what Athanor answers, unless it decodes a large JPEG at a smaller scale, or
    the network sees further than the surroundings of the windows that a large picture goes through."""
    if manifest.task is Task.CLASSIFICATION:
        return Script("classify.py", "It prints the five likeliest labels.", _classify(manifest))
    if manifest.task is Task.SEGMENTATION:
        does = "It writes labels.png: 1 + each pixel's label, 0 for none."
        if manifest.tiles:
            does += " In one piece: mind the memory; a large picture's labels may differ a little."
        return Script("segment.py", does, _segment(manifest))
    return Script("enlarge.py", "It writes enlarged.png, in one piece: mind the memory.", _enlarge(manifest))


_BEGIN = ["import numpy, onnxruntime", "from PIL import Image, ImageOps"]
_PICTURE = 'picture = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")'


def _classify(manifest: Manifest) -> list[str]:
    return [
        "import json, pathlib, sys",
        *_BEGIN,
        'labels = json.loads(pathlib.Path("manifest.json").read_text("utf-8"))["labels"]',
        _PICTURE,
        *_fitted(manifest),
        f"logits = {_run(manifest, 'numpy.asarray(small)')}",
        "scores = numpy.exp(logits - logits.max()) / numpy.exp(logits - logits.max()).sum()",
        'for index in (-scores).argsort(kind="stable")[:5]:',
        '    print(f"{scores[index]:.4f}  {labels[index]}")',
    ]


def _segment(manifest: Manifest) -> list[str]:
    depth = "uint8" if len(manifest.labels) <= _MOST_OF_A_BYTE else "uint16"
    facts = manifest.masks or MaskFacts(activation="softmax")
    return [
        "import sys",
        *_BEGIN,
        _PICTURE,
        *(_tiled_logits(manifest, manifest.tiles) if manifest.tiles else _fitted_logits(manifest)),
        *_shares(facts),
        *([] if manifest.tiles else _to_size(manifest)),
        f"labels = numpy.where(shares.max(0) >= {_THRESHOLD}, 1 + shares.argmax(0), 0)",
        f'Image.fromarray(labels.astype("{depth}")).save("labels.png")',
    ]


def _enlarge(manifest: Manifest) -> list[str]:
    assert manifest.tiles is not None
    return [
        "import sys",
        *_BEGIN,
        _PICTURE,
        *_tiled_logits(manifest, manifest.tiles, name="made"),
        'pixels = (made.transpose(1, 2, 0) * 255).round().clip(0, 255).astype("uint8")',
        'Image.fromarray(pixels).save("enlarged.png")',
    ]


def _fitted(manifest: Manifest) -> list[str]:
    how = manifest.preprocessing
    resampling = f"Image.Resampling.{how.interpolation.upper()}"
    size = f"({how.width}, {how.height}), {resampling}"
    if how.fit == "crop":
        return [f"small = ImageOps.fit(picture, {size}, bleed={(1 - how.crop) / 2:g})"]
    if how.fit == "squash":
        return [f"small = picture.resize({size})"]
    return [
        f"scale = min({how.height} / picture.height, {how.width} / picture.width)",
        "rows, columns = (max(1, round(side * scale)) for side in (picture.height, picture.width))",
        f'small = Image.new("RGB", ({how.width}, {how.height}))',
        f"place = ({how.width} - columns) // 2, ({how.height} - rows) // 2",
        f"small.paste(picture.resize((columns, rows), {resampling}), place)",
    ]


def _run(manifest: Manifest, pixels: str) -> str:
    feed = f'{{"{manifest.inputs[0].name}": {pixels}[None]}}'
    return f'onnxruntime.InferenceSession("{MODEL_FILE}").run(None, {feed})[0][0]'


def _fitted_logits(manifest: Manifest) -> list[str]:
    return [*_fitted(manifest), f"logits = {_run(manifest, 'numpy.asarray(small)')}"]


def _tiled_logits(manifest: Manifest, tiles: TileFacts, *, name: str = "logits") -> list[str]:
    """The whole picture as one window, with its surroundings, which are cut off again."""
    around, cut = tiles.surround, tiles.context * tiles.scale
    return [
        "height, width = picture.height, picture.width",
        f"rows, columns = ({around}, {around} + -height % {_STEP}), ({around}, {around} + -width % {_STEP})",
        'pixels = numpy.pad(numpy.asarray(picture), (rows, columns, (0, 0)), mode="edge")',
        f"{name} = {_run(manifest, 'pixels')}",
        f"{name} = {name}[:, {cut} : {cut} + {tiles.scale} * height, {cut} : {cut} + {tiles.scale} * width]",
    ]


def _shares(facts: MaskFacts) -> list[str]:
    if facts.activation == "softmax":
        lines = ["shares = numpy.exp(logits - logits.max(0))", "shares = shares / shares.sum(0)"]
    else:
        lines = ["shares = 1 / (1 + numpy.exp(-logits))"]
    if facts.is_stretched:
        lines += [
            "low, high = shares.min(), shares.max()",
            "shares = (shares - low) / max(high - low, 1e-12)",
        ]
    return lines


def _to_size(manifest: Manifest) -> list[str]:
    lines = []
    if manifest.preprocessing.fit == "pad":  # what lies around the picture is not part of it
        lines = [
            "scale = min(shares.shape[1] / picture.height, shares.shape[2] / picture.width)",
            "rows, columns = (max(1, round(side * scale)) for side in (picture.height, picture.width))",
            "top, left = (shares.shape[1] - rows) // 2, (shares.shape[2] - columns) // 2",
            "shares = shares[:, top : top + rows, left : left + columns]",
        ]
    return [
        *lines,
        "large = [Image.fromarray(one).resize(picture.size, Image.Resampling.BILINEAR) for one in shares]",
        "shares = numpy.stack([numpy.asarray(one) for one in large])",
    ]
