"""The child of `adopt`: limits itself, checks the file, puts it into the served form, runs it."""

import os
import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from models.export.adopt import SMALLER, Adopted, Answer, Request, Wishes
from models.export.inspect_onnx import (
    Input,
    Refused,
    as_entry,
    count_parameters,
    find_input,
    find_output,
    read_model,
)
from models.export.rewrite_windows import Windows, check_free, measure
from models.export.served import ServedGraphError, ServedSession
from models.export.served_form import Entry, Exit, normalisation_in, opset_of, to_served_form
from models.manifest import Preprocessing

_TRIED = 3
_SAME = 1e-4
"""Runs of the same image in batches of different size agree to this, relative to the largest output."""
_SUMS_TO_ONE = 1e-3
_PLAIN_MEAN, _PLAIN_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def rewrite_file(source: Path, target: Path, wishes: Wishes) -> Adopted:
    """Everything between a stranger's file and a graph that has answered. Raises Refused."""
    model = read_model(source)
    found = find_input(model, layout=wishes.layout)
    entry = as_entry(found, channels=wishes.channels)
    takes_windows = wishes.preprocessing.fit == "tiles"
    if takes_windows:
        check_free(found)
    else:
        _check_size(found, wishes.preprocessing)
    own = normalisation_in(model) if entry.dtype == "uint8" else None
    _check_normalisation(entry, wishes.preprocessing, is_ours=own is not None)
    has_maps = wishes.has_maps or wishes.has_pictures
    leaves = find_output(model, classes=wishes.classes, has_maps=has_maps)
    if wishes.has_pictures:
        leaves = replace(leaves, is_picture=True)
    served, leaves, max_batch = _settle_batch(model, wishes.preprocessing, found, entry, leaves)
    onnx.checker.check_model(served)
    target.write_bytes(served.SerializeToString())
    windows = measure(served, wishes) if takes_windows else Windows(scale=1, margin=0, reach=None)
    return Adopted(
        max_batch=max_batch,
        opset=opset_of(served) or 0,
        parameters=count_parameters(model),
        mean=None if own is None else own[0],
        std=None if own is None else own[1],
        map_size=(-1, -1) if takes_windows else leaves.map_size or (),
        activation=leaves.activation,
        scale=windows.scale,
        margin=windows.margin,
        reach=windows.reach,
    )


def _check_size(found: Input, preprocessing: Preprocessing) -> None:
    wished = (preprocessing.height, preprocessing.width)
    for side, has, wants in zip(("height", "width"), (found.height, found.width), wished, strict=True):
        if has is not None and has != wants:
            raise Refused(
                f"The graph takes a {side} of {has} pixels, you gave {wants}.", hint=f"Give {side} {has}."
            )


def _check_normalisation(entry: Entry, preprocessing: Preprocessing, *, is_ours: bool) -> None:
    is_plain = (preprocessing.mean, preprocessing.std) == (_PLAIN_MEAN, _PLAIN_STD)
    if entry.dtype == "uint8" and not is_plain and not is_ours:
        raise Refused(
            "The graph takes uint8, so it normalises by itself; `mean` and `std` would not be applied.",
            hint="Leave `mean` and `std` out.",
        )
    if entry.dtype == "float32" and not is_plain and max(*preprocessing.mean, *preprocessing.std) <= 1:
        raise Refused(
            f"mean {preprocessing.mean} and std {preprocessing.std} look like units of 0..1.",
            hint="Multiply both by 255: they are in units of 0..255.",
        )


def _settle_batch(
    model: ModelProto, preprocessing: Preprocessing, found: Input, entry: Entry, leaves: Exit
) -> tuple[ModelProto, Exit, int | None]:
    """The served graph with a free batch dimension if the graph bears it, else with a batch of one.

    Many exporters fix the batch at one though nothing in the graph needs it.
    """
    images = _images(preprocessing)
    try:
        return *_served(model, preprocessing, entry, leaves, images=images, batch=None), None
    except (ServedGraphError, Refused) as error:
        if found.batch is None:
            raise _as_refusal(error) from error
        if found.batch > 1:
            raise Refused(
                f"The graph takes batches of exactly {found.batch}.",
                hint="Export it with a dynamic batch dimension, or with a batch of 1.",
            ) from error
    try:
        return *_served(model, preprocessing, entry, leaves, images=images, batch=1), 1
    except ServedGraphError as error:
        raise _as_refusal(error) from error


def _served(
    model: ModelProto,
    preprocessing: Preprocessing,
    entry: Entry,
    leaves: Exit,
    *,
    images: NDArray[np.uint8],
    batch: int | None,
) -> tuple[ModelProto, Exit]:
    served = to_served_form(model, preprocessing, entry=entry, leaves=leaves, batch=batch)
    outputs = _run(served, images, batch=batch, leaves=leaves)
    settled = replace(leaves, is_probability=_are_probabilities(outputs, leaves))
    if preprocessing.fit != "tiles":
        settled = replace(settled, map_size=outputs.shape[2:])
    if settled != leaves:
        served = to_served_form(model, preprocessing, entry=entry, leaves=settled, batch=batch)
        _run(served, images, batch=batch, leaves=settled)
    return served, settled


def _run(
    served: ModelProto, images: NDArray[np.uint8], *, batch: int | None, leaves: Exit
) -> NDArray[np.float32]:
    """Outputs of the images one by one; in one batch, and a second time, they must be the same."""
    session = ServedSession(served.SerializeToString())
    singles = [session.run(images[position : position + 1]) for position in range(len(images))]
    shapes = {tuple(output.shape) for output in singles}
    found = sorted(shapes)[0]
    rank = 2 if leaves.map_size == () else 4
    if len(shapes) > 1 or len(found) != rank or found[:2] != (1, leaves.classes):
        if leaves.is_picture:
            raise Refused(
                f"One window gives an output of shape {found}; a picture has 3 channels.",
                hint="Export it with an RGB picture as its output.",
            )
        raise Refused(
            f"One image gives an output of shape {found}; there are {leaves.classes} labels.",
            hint="Give one label for each output, in the order of the network's outputs.",
        )
    outputs = np.concatenate(singles)
    if not np.isfinite(outputs).all():
        raise Refused("Ordinary images give outputs that are not finite.", hint="Check `mean` and `std`.")
    again = session.run(images) if batch is None else session.run(images[:1])
    if again.shape != outputs[: len(again)].shape:
        raise ServedGraphError(f"A batch of {len(images)} gives an output of shape {again.shape}.")
    allowed = _SAME * max(1.0, float(np.abs(outputs).max()))
    if float(np.abs(again - outputs[: len(again)]).max()) > allowed:
        raise ServedGraphError("The same image gives different outputs in another batch or another run.")
    return outputs


def _are_probabilities(outputs: NDArray[np.float32], leaves: Exit) -> bool:
    """Shares that sum to one over the labels. Raises Refused for maps of shares that do not."""
    if leaves.is_picture:
        return False
    sums = outputs.sum(axis=1)
    if (outputs >= 0).all() and (np.abs(sums - 1) < _SUMS_TO_ONE).all():
        return True
    if leaves.map_size != () and float(outputs.min()) >= 0 and float(outputs.max()) <= 1:
        raise Refused(
            "The maps lie between 0 and 1, as if a sigmoid had made them.",
            hint="Export the network with its sigmoid as the last operator, or without it.",
        )
    return False


def _images(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Noise, grey and noise again: (3, H, W, 3). Seeded, so that a refusal repeats."""
    shape = (_TRIED, preprocessing.height, preprocessing.width, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images[1] = 127
    return images


def _as_refusal(error: Refused | ServedGraphError) -> Refused:
    if isinstance(error, Refused):
        return error
    return Refused(str(error), hint="Export it again, with a dynamic batch dimension and standard operators.")


def _limit_this_process(request: Request) -> None:
    size_bytes = request.source.stat().st_size
    memory_bytes = request.limits.memory_bytes + 6 * size_bytes
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, request.limits.cpu_s),
        (resource.RLIMIT_FSIZE, size_bytes + 2**24),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _main() -> None:
    request = Request.model_validate_json(sys.stdin.buffer.read())
    # Whatever a library prints must not get into the answer.
    answer_to = os.dup(1)
    os.dup2(2, 1)
    _limit_this_process(request)
    try:
        answer = Answer(adopted=rewrite_file(request.source, request.target, request.wishes))
    except Refused as refusal:
        answer = Answer(what=refusal.what, hint=refusal.hint)
    except MemoryError:
        answer = Answer(
            what=f"Reading and running the file needs more than {request.limits.memory_bytes} bytes.",
            hint=SMALLER,
        )
    os.write(answer_to, answer.model_dump_json().encode())
    os._exit(0)  # no library's exit handler runs on behalf of a stranger's file


if __name__ == "__main__":
    _main()
