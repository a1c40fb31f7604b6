"""An object is deleted only when no row of its tenant names it, whichever table the row is in."""

import pytest

from app.access.principal import SYSTEM, Principal
from app.db.tables import (
    Base,
    DatasetRow,
    DatasetVersionRow,
    FileRow,
    JobCheckpointRow,
    ModelRow,
    UploadPartRow,
    UploadRow,
    VersionRow,
)
from app.jobs.service import JobService
from app.storage.reclaim import reclaim

WHO = {"tenant_id": SYSTEM.tenant_id}
NOW = {"created_at": 0.0}


def upload_row(status="pending"):
    announced = {"filename": "a", "purpose": "p", "mime_type": "m", "size_bytes": 1, "expires_at": 9e9}
    return UploadRow(id="u", status=status, **announced, **WHO, **NOW)


def rows_that_name(table, sha256, job_id):
    """The row that names the object, after those that it refers to."""
    kept = {"id": "x", "sha256": sha256, "size_bytes": 5, **WHO, **NOW}
    line = {"id": "line", "name": "line", "task": "t", "next_version": 2, **WHO, **NOW}
    if table is FileRow:
        return [FileRow(**kept, filename="a", purpose="p")]
    if table is UploadPartRow:
        return [upload_row(), UploadPartRow(**kept, upload_id="u")]
    if table is DatasetVersionRow:
        return [
            DatasetRow(**line),
            DatasetVersionRow(**kept, dataset_id="line", number=1, source={}, report={}),
        ]
    if table is JobCheckpointRow:
        return [JobCheckpointRow(**kept, job_id=job_id, step=1, metrics={})]
    artifacts = [{"name": "model.onnx", "sha256": sha256, "size_bytes": 5}]
    version = {"id": "v", "number": 1, "manifest": {}, "certificate": {}, "artifacts": artifacts}
    return [ModelRow(**line), VersionRow(**version, model_id="line", **WHO, **NOW)]


NAMING = (FileRow, UploadPartRow, DatasetVersionRow, JobCheckpointRow, VersionRow)


def test_every_table_that_names_objects_is_looked_at():
    with_hash = {name for name, table in Base.metadata.tables.items() if "sha256" in table.columns}
    assert with_hash - {"api_keys"} | {"versions"} == {table.__tablename__ for table in NAMING}


@pytest.mark.parametrize("table", NAMING, ids=lambda table: table.__tablename__)
def test_what_a_row_names_stays_until_the_row_goes(database, objects, table):
    job = JobService(database, lambda job_id: None).create(SYSTEM, kind="fine_tune", spec={})
    named, unnamed = (objects.put_bytes(SYSTEM, data).sha256 for data in (b"named", b"other"))
    elsewhere = Principal(tenant_id="elsewhere")
    objects.put_bytes(elsewhere, b"named")
    *before, row = rows_that_name(table, named, job.id)
    with database.begin() as session:
        session.add_all(before)
        session.flush()
        session.add(row)
    reclaim(database, objects, SYSTEM, [named, unnamed])
    assert objects.exists(SYSTEM, named)
    assert not objects.exists(SYSTEM, unnamed)
    reclaim(database, objects, elsewhere, [named])
    assert not objects.exists(elsewhere, named)
    with database.begin() as session:
        session.delete(session.merge(row))
    reclaim(database, objects, SYSTEM, [named])
    assert not objects.exists(SYSTEM, named)


def test_many_objects_go_in_one_call(database, objects):
    hashes = [objects.put_bytes(SYSTEM, f"{n}".encode()).sha256 for n in range(200)]
    reclaim(database, objects, SYSTEM, hashes)
    assert not any(objects.exists(SYSTEM, sha256) for sha256 in hashes)
