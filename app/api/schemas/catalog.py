"""Bodies of `/v1/catalog`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.catalogue import Kind, Proof, Row
from models.manifest import Task


class CatalogRow(BaseModel):
    """A method that a spec can name."""

    id: str = Field(description="What specs call it.")
    object: Literal["catalog.row"] = "catalog.row"
    name: str
    kind: Kind
    tasks: list[Task]
    parameters: dict[str, Any] = Field(description="JSON schema of what it can be told.")
    licence: str = Field(description="SPDX identifier of the code that computes it.")
    paper: str | None
    proof: Proof = Field(description="What its tests show: each level holds the ones before it.")
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "lora",
                "object": "catalog.row",
                "name": "LoRA",
                "kind": "adapter",
                "tasks": ["classification"],
                "parameters": {"type": "object", "properties": {"r": {"type": "integer", "default": 8}}},
                "licence": "Apache-2.0",
                "paper": "Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models",
                "proof": "serves",
            }
        }
    )

    @classmethod
    def of(cls, row: Row) -> "CatalogRow":
        """The row as the API shows it."""
        return cls(
            id=row.id,
            name=row.name,
            kind=row.kind,
            tasks=sorted(row.tasks),
            parameters=row.parameters.model_json_schema(),
            licence=row.licence,
            paper=row.paper,
            proof=row.proof,
        )


class CatalogList(BaseModel):
    """Methods, in the catalogue's order."""

    object: Literal["list"] = "list"
    data: list[CatalogRow]
