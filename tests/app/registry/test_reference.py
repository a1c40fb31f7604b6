import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.registry.reference import (
    Reference,
    check_alias_name,
    check_model_name,
    is_name,
    parse_reference,
)

GOOD = ["a", "7", "efficientnet-lite0", "a.b_c-d", "x" * 64]
BAD = [
    "",
    "-a",
    "a-",
    ".a",
    "A",
    "a--b",
    "a..b",
    "a/b",
    "a:b",
    "a@b",
    "ft:a",
    "a b",
    "ä",
    "x" * 65,
    "a\n",
    "a\0",
]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_a_name(name):
    assert is_name(name)
    assert check_model_name(name) == name


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_with_the_rule(name):
    assert not is_name(name)
    with pytest.raises(InvalidRequest) as refused:
        check_model_name(name)
    assert "a-z" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("m", Reference(name="m")),
        ("m@production", Reference(name="m", alias="production")),
        ("m@ckpt-120", Reference(name="m", alias="ckpt-120")),
        ("m:3", Reference(name="m", number=3)),
    ],
)
def test_each_form_of_a_reference_is_read(text, reference):
    assert parse_reference(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        *(text for text in BAD if text != "a@b"),
        "m:",
        "m:0",
        "m:-1",
        "m:x",
        "m:03",
        "m@",
        "m@b:3",
        "m:3@b",
        "m:" + "9" * 10,
    ],
)
def test_anything_else_is_not_a_reference(text):
    with pytest.raises(InvalidRequest) as refused:
        parse_reference(text)
    assert refused.value.param == "model"


@given(st.text(alphabet="ab0.-_:@/ ", max_size=12))
def test_what_parses_is_written_back_as_it_was(text):
    try:
        reference = parse_reference(text)
    except InvalidRequest:
        return
    assert str(reference) == text
    assert is_name(reference.name)


@pytest.mark.parametrize("alias", ["3", "ckpt-120", "A", ""])
def test_an_alias_does_not_look_like_a_version_or_a_checkpoint(alias):
    with pytest.raises(InvalidRequest):
        check_alias_name(alias)


def test_an_ordinary_alias_is_taken():
    assert check_alias_name("production") == "production"
