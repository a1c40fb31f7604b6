"""Kinds of job that do what jobs should not: they crash, hang, chatter, leave processes behind."""

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from app.errors import ImportRefused, ObjectDamaged, StorageUnavailable
from workers.context import DatasetParcel, Interrupted, JobContext, Outcome

KINDS = {
    name: f"tests.workers.misbehaving_kinds:{name}"
    for name in (
        "nap", "refuse", "fault", "kill_self", "segfault", "leave", "kill_self_once", "chatter", "deaf",
        "leave_process", "context_facts", "publish", "leave_unasked", "fill_disk", "publish_dataset",
        "meet_outage",
    )
}  # fmt: skip
KINDS["count"] = "workers.kinds.count:run"
KINDS["super_resolution"] = "workers.kinds.super_resolution:run"


def nap(context: JobContext) -> Outcome:
    context.progress(0.25, "napping")
    Path(context.spec["started"]).write_text(str(os.getpid()))
    time.sleep(context.spec["seconds"])
    return Outcome(result={"napped": True})


def refuse(context: JobContext) -> Outcome:
    raise ImportRefused("This is not a model.", hint="Send a model.")


def fault(context: JobContext) -> Outcome:
    raise ZeroDivisionError("secret detail")


def kill_self(context: JobContext) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    return Outcome()


def segfault(context: JobContext) -> Outcome:
    ctypes.string_at(0)
    return Outcome()


def leave(context: JobContext) -> Outcome:
    os._exit(7)


def kill_self_once(context: JobContext) -> Outcome:
    marker = Path(context.spec["marker"])
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(result={"second": True})


def chatter(context: JobContext) -> Outcome:
    print("print to stdout")  # noqa: T201 - the point
    os.write(1, b"raw write to descriptor 1\n")
    subprocess.run(["echo", "a program's stdout"], check=True)
    sys.stderr.write("stderr\n")
    for step in range(50):
        context.progress(step / 50, "chattering")
        context.message(f"step {step}")
    return Outcome()


def deaf(context: JobContext) -> Outcome:
    """Ignores every polite request to end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return nap(context)


def leave_process(context: JobContext) -> Outcome:
    process = subprocess.Popen(["sleep", "600"])
    Path(context.spec["started"]).write_text(str(process.pid))
    time.sleep(context.spec["seconds"])
    return Outcome(result={"pid": process.pid})


def context_facts(context: JobContext) -> Outcome:
    (context.work_dir / "scratch").write_text("x")
    return Outcome(
        result={
            "threads": os.environ["OMP_NUM_THREADS"],
            "nice": os.nice(0),
            "own_group": os.getpgrp() == os.getpid(),
            "tenant": context.principal.tenant_id,
            "data_dir": str(context.settings.data_dir),
            "api_key": context.settings.api_key,
            "work_dir": str(context.work_dir),
        }
    )


def publish(context: JobContext) -> Outcome:
    """A real version, as an import makes it: stand-in bytes, true hashes."""
    from models.manifest import MODEL_FILE
    from tests.registry_world import build_certificate, build_manifest
    from workers.context import Publication

    manifest = build_manifest()
    (context.work_dir / MODEL_FILE).write_bytes(b"onnx")
    certified = b"onnx" if context.spec.get("honest", True) else b"another file"
    return Outcome(
        result={"parameters": 1},
        publish=Publication(
            name=context.spec["name"],
            manifest=manifest,
            certificate=build_certificate(manifest, certified),
            artifacts={MODEL_FILE: context.work_dir / MODEL_FILE},
            checkpoint_step=context.spec.get("checkpoint_step"),
        ),
    )


def leave_unasked(context: JobContext) -> Outcome:
    raise Interrupted


def fill_disk(context: JobContext) -> Outcome:
    raise OSError(errno.ENOSPC, "No space left on device")


def publish_dataset(context: JobContext) -> Outcome:
    pack = context.work_dir / "pack"
    pack.write_bytes(b"pixels")
    parcel = DatasetParcel(
        name=context.spec["name"], task=context.spec["task"], pack=pack, source={"file_ids": []}, report={}
    )
    return Outcome(result={"datasets": [context.publish_dataset(parcel) for _ in range(2)]})


def meet_outage(context: JobContext) -> Outcome:
    if context.spec.get("is_damage"):
        raise ObjectDamaged("Stored bytes do not match their hash.")
    if context.attempt <= context.spec["attempts"]:
        raise StorageUnavailable("The database cannot answer now.", hint="The call can be repeated.")
    return Outcome()
