"""Schemas describe fields by the docstrings under them."""

from pydantic import BaseModel, ConfigDict, Field

from models.described import with_docstrings


class _Base(BaseModel):
    model_config = ConfigDict(json_schema_extra=with_docstrings)

    rank: int = 8
    """Of the small matrices."""
    scale: float = 1.0
    """What the base says."""
    plain: bool = False


class _Method(_Base):
    """One method."""

    scale: float = 2.0
    """What the method
    says."""
    named: str = Field(default="", description="Said in place.")
    """Not this."""


def test_each_field_has_the_docstring_of_the_nearest_class_unless_it_says_more_itself() -> None:
    properties = _Method.model_json_schema()["properties"]
    assert {name: schema.get("description") for name, schema in properties.items()} == {
        "rank": "Of the small matrices.",
        "scale": "What the method\nsays.",
        "plain": None,
        "named": "Said in place.",
    }


def test_fields_of_models_within_models_are_described_too() -> None:
    class Outer(BaseModel):
        inner: _Method

    assert Outer.model_json_schema()["$defs"]["_Method"]["properties"]["rank"]["description"]
