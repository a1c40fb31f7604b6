"""Bring your own ONNX: a stranger's graph becomes a served one."""

from typing import Literal

from app.errors import ImportRefused
from models.export.adopt import Adopted, Wishes, adopt
from models.export.inspect_onnx import Refused
from models.export.served_form import tensor_facts
from models.manifest import MODEL_FILE, Manifest, MaskFacts, Preprocessing, Task
from workers.context import JobContext
from workers.kinds.import_sources import Brought
from workers.kinds.import_spec import ImportSpec, Usage

_NO_MEAN, _NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_NEAR = 1e-4
_COLOURS = 3


def adopt_onnx(context: JobContext, order: ImportSpec, file: Brought) -> tuple[Manifest, Adopted]:
    """Check the file in a child process with limits; write its served form into the work folder.

    Raises:
        ImportRefused: what is wrong with the file or with what was said about it, and what to do.

    """
    context.begin("checking", at=0.45)
    usage = order.manifest
    has_pictures = order.task is Task.SUPER_RESOLUTION
    labels = () if has_pictures else usage.checked_labels()
    preprocessing = usage.preprocessing(order.task)
    wishes = Wishes(
        preprocessing=preprocessing,
        classes=len(labels) or _COLOURS,
        has_maps=order.task is Task.SEGMENTATION,
        has_pictures=has_pictures,
        layout=usage.layout,
        channels=usage.channels,
    )
    try:
        adopted = adopt(file.path, context.work_dir / MODEL_FILE, wishes)
    except Refused as error:
        raise ImportRefused(error.what, param="source", hint=error.hint) from error
    return _manifest(order, file, preprocessing, labels, adopted), adopted


def _manifest(
    order: ImportSpec,
    file: Brought,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
    adopted: Adopted,
) -> Manifest:
    usage, tiles = order.manifest, None
    if adopted.mean is not None and (usage.mean, usage.std) == (_NO_MEAN, _NO_STD):
        known = {"mean": adopted.mean, "std": adopted.std}
        preprocessing = preprocessing.model_copy(update=known)
    if preprocessing.fit == "tiles":
        tiles = usage.tiles(scale=adopted.scale, margin=adopted.margin, reach=adopted.reach)
        preprocessing = preprocessing.model_copy(update={"height": tiles.window, "width": tiles.window})
    image, outputs = tensor_facts(
        preprocessing,
        classes=len(labels) or _COLOURS,
        batch=adopted.max_batch,
        map_size=adopted.map_size,
        is_picture=not labels,
    )
    return Manifest(
        task=order.task,
        inputs=(image,),
        outputs=(outputs,),
        preprocessing=preprocessing,
        labels=labels,
        max_batch=adopted.max_batch,
        architecture=usage.architecture,
        source=order.source,
        source_sha256=file.sha256,
        licence=usage.licence,
        parameters=adopted.parameters,
        opset=adopted.opset,
        masks=_masks(usage, adopted, len(labels)) if order.task is Task.SEGMENTATION else None,
        tiles=tiles,
    )


def _masks(usage: Usage, adopted: Adopted, labels: int) -> MaskFacts:
    """What was said of the maps, else what the file does with them, else what so many labels let expect."""
    if usage.activation and adopted.activation and usage.activation != adopted.activation:
        raise ImportRefused(
            f"The graph ends in a {adopted.activation}; you gave {usage.activation}.",
            param="manifest.activation",
            hint="Leave `activation` out.",
        )
    expected: Literal["sigmoid", "softmax"] = "softmax" if labels > 1 else "sigmoid"
    return MaskFacts(
        activation=usage.activation or adopted.activation or expected, is_stretched=usage.is_stretched
    )


def check_normalisation(manifest: Manifest, adopted: Adopted) -> None:
    """A graph that Athanor once wrote says what it subtracts; the manifest must say the same.

    Called after the comparison with reference outputs, which has the better message when both are wrong.
    """
    for what, says, does in (
        ("mean", manifest.preprocessing.mean, adopted.mean),
        ("std", manifest.preprocessing.std, adopted.std),
    ):
        if does is not None and any(abs(a - b) > _NEAR for a, b in zip(says, does, strict=False)):
            raise ImportRefused(
                f"The manifest's {what} is {says}; the graph was written with {does}.",
                param=f"manifest.{what}",
                hint=f"The graph normalises by itself: leave {what} out, or give what it was written with.",
            )
