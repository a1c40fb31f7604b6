"""A job that counts: what a training does, without its arithmetic. It shows that no step is lost or doubled.

    for each step: digest ◄─ SHA-256(digest, seed, step); every so often a checkpoint; at the end, if it is
    asked for, a version of a tiny model

Spec: `steps` (default 20), `step_s` (0.01: how long a step takes), `checkpoint_every` (5), `seed` (0),
`publish` (none: the model's name). The result's `digest` is the same however often the run was interrupted.
The job's log says each step when it is taken, `half of checkpoint N` when half of its file is written, and
`publishing`.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from models.manifest import (
    CERTIFICATE_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    Manifest,
    Preprocessing,
    Task,
    TensorFacts,
)
from workers.context import Interrupted, JobContext, Outcome, Publication

_SIDE = 8
_LABELS = ("red", "blue")


def run(context: JobContext) -> Outcome:
    """Count.

    Raises:
        Interrupted: left off after a checkpoint.

    """
    spec = context.spec
    steps, every = int(spec.get("steps", 20)), int(spec.get("checkpoint_every", 5))
    step_s, seed = float(spec.get("step_s", 0.01)), int(spec.get("seed", 0))
    step, digest = _begin(context)
    context.facts({"total_steps": steps})
    while step < steps:
        step += 1
        _log(f"step {step} of attempt {context.attempt}")
        time.sleep(step_s)
        digest = hashlib.sha256(f"{digest} {seed} {step}".encode()).hexdigest()
        context.metrics(step, {"loss": 1.0 / step, "valid_accuracy": step / steps})
        context.progress(0.9 * step / steps, "counting")
        stops = context.stop_asked()
        if step % every == 0 or stops:
            _checkpoint(context, step, digest, pause_s=step_s)
        if stops:
            raise Interrupted
    result = {"digest": digest, "steps": steps}
    if spec.get("publish") is None:
        return Outcome(result=result)
    context.progress(0.9, "publishing")
    _log("publishing")
    time.sleep(step_s)
    return Outcome(result=result, publish=_publication(context, str(spec["publish"])))


def _begin(context: JobContext) -> tuple[int, str]:
    """Step and digest to go on from."""
    if context.resume is None:
        return 0, ""
    state = json.loads(context.resume.path.read_text())
    assert state["step"] == context.resume.step, "the checkpoint is another's"
    return int(state["step"]), str(state["digest"])


def _checkpoint(context: JobContext, step: int, digest: str, *, pause_s: float) -> None:
    text = json.dumps({"step": step, "digest": digest})
    path = context.work_dir / f"checkpoint-{step}.json"
    unfinished = path.with_suffix(".part")
    with unfinished.open("w") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        _log(f"half of checkpoint {step}")
        time.sleep(pause_s)
        file.write(text[len(text) // 2 :])
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    context.checkpoint(step, path, {"valid_accuracy": float(step)})


def _publication(context: JobContext, name: str) -> Publication:
    """A classifier of two classes: whether a picture has more red or more blue."""
    from models.export.parity import certify  # noqa: PLC0415 - ONNX Runtime, for jobs that publish

    manifest = Manifest(
        task=Task.CLASSIFICATION,
        inputs=(TensorFacts(name="image", dtype="uint8", shape=(-1, _SIDE, _SIDE, 3)),),
        outputs=(TensorFacts(name="logits", dtype="float32", shape=(-1, len(_LABELS))),),
        preprocessing=Preprocessing(height=_SIDE, width=_SIDE),
        labels=_LABELS,
    )
    model = context.work_dir / MODEL_FILE
    _write_graph(model)
    artifacts = {MODEL_FILE: model}
    certificate = certify(model, manifest)
    for file, content in ((MANIFEST_FILE, manifest.to_json()), (CERTIFICATE_FILE, certificate.to_json())):
        artifacts[file] = context.work_dir / file
        artifacts[file].write_bytes(content)
    return Publication(name=name, manifest=manifest, certificate=certificate, artifacts=artifacts)


def _write_graph(path: Path) -> None:
    import onnx  # noqa: PLC0415 - for jobs that publish
    from onnx import TensorProto, helper  # noqa: PLC0415 - as above

    shapes = {"image": [None, _SIDE, _SIDE, 3], "logits": [None, len(_LABELS)]}
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Gather", ["mean", "channels"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "count",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shapes["image"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shapes["logits"])],
        [helper.make_tensor("channels", TensorProto.INT64, [2], [0, 2])],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
