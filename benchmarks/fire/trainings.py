"""Real trainings for the fire: LeNet-5 from scratch on scans of digits, small enough for a hundred."""

from typing import Any

from app.access.principal import SYSTEM
from app.datasets.service import DatasetService
from app.files.service import FileService
from app.fine_tuning.plan import References, plan_fine_tune
from tests.crash.workshop import Workshop
from tests.e2e.training import digits_zip

STEPS = 24
SPEC: dict[str, Any] = {
    "model": "lenet5",
    "adapter": {"method": "full"},
    "batch_size": 8,
    "max_steps": STEPS,
    "checkpoint_every_steps": 6,
    "threads": 1,
}


def training_specs(workshop: Workshop, count: int) -> tuple[dict[str, Any], ...]:
    """Make the data set, with a worker of this workshop's, and specs of `fine_tune` jobs on it."""
    if not count:
        return ()
    files = FileService(workshop.database, workshop.objects, workshop.settings)
    with files.begin() as upload:
        upload.write(digits_zip(each=25))
        file_id = files.commit(SYSTEM, upload, filename="digits.zip", purpose="fine-tune").id
    made = {"name": "digits", "task": "classification", "file_ids": [file_id], "base": None, "options": {}}
    workshop.wait_status(workshop.jobs.create(SYSTEM, kind="dataset", spec=made).id, timeout_s=300)
    where = References(
        registry=workshop.registry,
        files=files,
        datasets=DatasetService(workshop.database, workshop.objects),
    )
    asked = [{**SPEC, "dataset": "digits:1", "seed": at, "suffix": f"training-{at}"} for at in range(count)]
    return tuple(plan_fine_tune(SYSTEM, raw, where, dry_run=False).spec for raw in asked)
