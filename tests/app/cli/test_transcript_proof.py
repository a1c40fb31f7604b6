"""`athanor verify` and `athanor doctor`, as real processes: what holds, what does not, what is broken."""

import pytest

from models.manifest import MODEL_FILE


def test_verify_says_what_it_could_hold_a_version_against(athanor):
    said = athanor("verify", "colours@default")
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith(
        "colours:1 is unchanged and answers; nobody has given outputs"
    )
    assert "has no version 9" in athanor.refuses("verify", "colours:9")
    assert "There is no model 'colour'" in athanor.refuses("verify", "colour")
    assert "is not a model reference" in athanor.refuses("verify", "colours:x")


def test_verify_finds_a_changed_file(athanor, publish):
    publish("tampered", labels=("a", "b", "c"), gain=5.0)
    assert athanor("verify", "tampered").code == 0
    stored = publish.file("tampered", MODEL_FILE)
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes().replace(b"gain", b"niag"))
    assert "do not match their hash" in athanor.refuses("verify", "tampered")


def test_verify_finds_a_certificate_about_something_else(athanor, publish):
    publish("borrowed", labels=("a", "b", "c"), gain=6.0)
    publish.alter_manifest("borrowed", lambda manifest: manifest["labels"].reverse())
    refused = athanor.refuses("verify", "borrowed")
    assert "borrowed:1 does not hold: The manifest is not the certified one" in refused


def test_doctor_names_the_processes_and_what_models_take(athanor, service):
    said = athanor("doctor")
    assert said.code == 0, said.out
    assert f"(pid {service.process.pid})" in said.out
    assert f"runs (pid {service.pid_of('workers')})" in said.out
    assert "CPUExecutionProvider works" in said.out
    facts = athanor("doctor", "--json").json
    assert facts["healthy"] is True
    states = {finding["part"]: finding["state"] for finding in facts["findings"]}
    assert {states[part] for part in ("service", "worker", "database", "broker", "objects", "provider")} == {
        "ok"
    }
    [size] = [each["size_bytes"] for each in facts["versions"] if each["model"] == "colours:1"]
    assert size > (athanor.folder / "colours.onnx").stat().st_size


@pytest.mark.parametrize(
    ("setting", "value", "part"),
    [
        ("ATHANOR_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none", "database"),
        ("ATHANOR_BROKER_URL", "redis://127.0.0.1:1/0", "broker"),
        ("ATHANOR_OBJECTS_URL", "gopher://bucket", "objects"),
        ("ATHANOR_URL", "http://127.0.0.1:1", "service"),
        ("ATHANOR_API_KEY", "wrong", "service"),
    ],
)
def test_doctor_finds_what_is_broken(athanor, setting, value, part):
    said = athanor("doctor", "--json", **{setting: value})
    broken = {finding["part"] for finding in said.json["findings"] if finding["state"] == "broken"}
    assert (said.code, said.json["healthy"], part in broken) == (1, False, True), said.json


def test_doctor_is_calm_where_nothing_was_started(stranger):
    said = stranger("doctor")
    assert said.code == 0
    assert "not running" in said.out


def test_verify_says_that_nothing_was_kept_here(stranger):
    assert "Nothing has been kept in" in stranger.refuses("verify", "colours")


def test_tune_shows_what_was_tried_and_keeps_it(athanor):
    first = athanor("tune", "colours", "--json")
    assert first.code == 0, first.err
    tried = {(plan["lanes"], plan["threads"], plan["batch"]) for plan in first.json["tried"]}
    assert {batch for _, _, batch in tried} == {1, 2, 4, 8}
    chosen = first.json["chosen"]
    assert (chosen["lanes"], chosen["threads"], chosen["batch"]) in tried
    said = athanor("tune", "colours@default")
    assert said.code == 0, said.err
    assert said.out.count("chosen") == 1
    assert f"batches of up to {chosen['batch']}." in said.out  # what the first has kept
    assert "has no version 9" in athanor.refuses("tune", "colours:9")


def test_compress_is_refused_at_the_door(athanor):
    assert "There is no data set 'none'" in athanor.refuses(
        "compress", "colours", "--precision", "int8", "--data", "none"
    )
    assert "There is no model 'colour'" in athanor.refuses(
        "compress", "colour", "--precision", "int8", "--data", "none"
    )
