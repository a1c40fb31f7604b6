"""`GET /v1/catalog`: every method that a job's spec can name."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.schemas.catalog import CatalogList, CatalogRow
from app.api.schemas.errors import error_responses
from models.catalogue import CATALOGUE, Kind
from models.manifest import Task

router = APIRouter(prefix="/v1/catalog", tags=["catalogue"])


@router.get("", responses=error_responses("invalid_payload"))
def list_methods(
    *,
    kind: Annotated[Kind | None, Query(description="Where in a spec it is named.")] = None,
    task: Annotated[Task | None, Query(description="Only what can be used for it.")] = None,
    q: Annotated[str, Query(max_length=200, description="Looked for in ids, names and papers.")] = "",
) -> CatalogList:
    """List methods, with the parameters that they take."""
    rows = CATALOGUE.find(kind=kind, task=task, text=q)
    return CatalogList(data=[CatalogRow.of(row) for row in rows])
