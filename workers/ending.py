"""The end of a successful run: what it made is published and the job is finished, both or neither. And what
goes after a job has ended."""

from app.access.principal import Principal
from app.db.revision import lock_revision
from app.files.keeping import keep
from app.jobs.job import ClaimedJob
from app.jobs.states import JobStatus
from app.storage.reclaim import release
from workers.protocol import Done
from workers.workplace import Workplace


def commit(place: Workplace, job: ClaimedJob, done: Done, *, ran_s: float) -> str | None:
    """Publish and finish in one transaction; the published version's name, if there is one. Safe to repeat.

    Raises LeaseLost, Cancelled, StorageUnavailable, and what `Registry.publish` refuses.
    """
    parcel, file, result = done.publish, done.file, dict(done.result)
    staged = {} if parcel is None else place.registry.stage(job.principal, parcel.artifacts)
    stored = None if file is None else place.objects.put_file(job.principal, file.path)
    with place.database.begin() as session:
        if parcel is not None:
            version = place.registry.publish(
                job.principal,
                name=parcel.name,
                manifest=parcel.manifest,
                certificate=parcel.certificate,
                artifacts=staged,
                job_id=job.id,
                session=session,
            )
            if (step := parcel.checkpoint_step) is not None:
                place.registry.mark_checkpoint(job.principal, version, step=step, session=session)
            result["model"] = str(version)
        if file is not None and stored is not None:
            facts = keep(
                session,
                place.objects,
                job.principal,
                stored,
                filename=file.filename,
                purpose=file.purpose,
            )
            result["file"] = facts.id
        place.store.finish(session, job.id, job.token, JobStatus.SUCCEEDED, result=result, ran_s=ran_s)
    return result.get("model")


def drop_spent(place: Workplace) -> None:
    """Take away the checkpoints, and their bytes, from which nothing will go on any more.

    A row goes with its bytes or stays, to be found again.
    """
    for spent in place.records.spent():
        with place.database.begin() as session:
            lock_revision(session)
            place.records.drop(session, spent.id)
            release(session, place.objects, Principal(tenant_id=spent.tenant_id), spent.sha256)
