import pytest
from starlette.testclient import TestClient

from app.db import migrate
from app.main import create_app
from app.settings import Settings
from models.catalogue import CATALOGUE, Kind


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("catalogue") / "data"
    settings = Settings(data_dir=data_dir, default_classifier="", starters="", _env_file=None)
    migrate.upgrade(settings.sqlalchemy_url)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def rows(client, **query):
    return client.get("/v1/catalog", params=query).json()["data"]


def test_every_row_is_listed_with_what_it_can_be_told(client):
    listed = rows(client)
    assert [(row["kind"], row["id"]) for row in listed] == [(row.kind.value, row.id) for row in CATALOGUE]
    assert {row["kind"] for row in listed} == {kind.value for kind in Kind}
    for row in listed:
        assert row["parameters"]["type"] == "object"
        assert row["licence"]
        assert row["proof"] in ("listed", "builds", "trains", "exports", "serves")
        for parameter in row["parameters"]["properties"].values():
            assert parameter["description"]


def test_rows_are_found_by_kind_task_and_text(client):
    adapters = rows(client, kind="adapter")
    assert {row["kind"] for row in adapters} == {"adapter"}
    assert len(adapters) == len(CATALOGUE.find(kind=Kind.ADAPTER))
    assert [row["id"] for row in rows(client, kind="adapter", q="Weight-Decomposed")] == ["dora"]
    assert all("classification" in row["tasks"] for row in rows(client, task="classification"))
    assert rows(client, kind="loss", task="text-generation") == []
    assert rows(client, q="no such thing") == []


def test_a_row_says_what_a_parameter_may_be(client):
    [lora] = [row for row in rows(client, kind="adapter", q="lora") if row["id"] == "lora"]
    rank = lora["parameters"]["properties"]["r"]
    assert (rank["type"], rank["minimum"], rank["default"]) == ("integer", 1, 8)
    assert "LoRA" in lora["paper"]


@pytest.mark.parametrize("query", [{"kind": "adaptor"}, {"task": "classify"}, {"q": "x" * 201}])
def test_what_no_row_can_be_is_refused(client, query):
    answer = client.get("/v1/catalog", params=query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_payload")
    assert answer.json()["error"]["param"] == next(iter(query))
