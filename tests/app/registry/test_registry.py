import pytest
from sqlalchemy import select

from app.access.principal import Principal
from app.db.tables import ApiKeyRow, VersionRow
from app.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    NotServable,
    ParityFailed,
    UnknownModel,
    UnknownVersion,
)
from app.registry.service import Registry
from app.registry.snapshot import ServingOptions
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.manifest import MODEL_FILE, Certificate, Level, Manifest, Task, sha256_hex
from tests.registry_world import build_certificate, build_manifest, publish

ALICE = Principal(tenant_id="alice")
BOB = Principal(tenant_id="bob")


@pytest.fixture
def objects(tmp_path):
    return ObjectStore.from_settings(Settings(data_dir=tmp_path, objects_url="memory://", _env_file=None))


@pytest.fixture
def registry(database, objects):
    return Registry(database, objects)


@pytest.fixture
def put(registry, tmp_path):
    """Publish for Alice."""

    def put(name="m", **options):
        return publish(registry, ALICE, tmp_path / "staging", name=name, **options)

    return put


def test_a_new_name_becomes_version_1_with_the_alias_default(registry, put):
    assert str(put("m")) == "m:1"
    model = registry.get_model(ALICE, "m")
    assert model.aliases == {"default": 1}
    assert list(model.versions) == [1]
    assert model.task is Task.CLASSIFICATION


def test_a_known_name_gets_its_next_number_and_no_alias_moves(registry, put):
    put("m")
    assert put("m", model=b"second").number == 2
    assert registry.get_model(ALICE, "m").aliases == {"default": 1}


def test_a_version_carries_its_manifest_certificate_and_files(registry, objects, put):
    put("m", model=b"graph", reference=b"samples", job_id="job_1")
    version = registry.get_version(ALICE, "m", 1)
    assert version.manifest == build_manifest()
    assert version.certificate.level is Level.CERTIFIED
    assert version.job_id == "job_1"
    assert [file.name for file in version.artifacts] == [
        "certificate.json",
        "manifest.json",
        "model.onnx",
        "reference.safetensors",
    ]
    assert objects.read(ALICE, version.artifact(MODEL_FILE).sha256) == b"graph"
    kept = objects.read(ALICE, version.artifact("manifest.json").sha256)
    assert Manifest.model_validate_json(kept) == version.manifest
    assert sha256_hex(kept) == version.certificate.manifest_sha256
    kept = objects.read(ALICE, version.artifact("certificate.json").sha256)
    assert Certificate.model_validate_json(kept) == version.certificate


def test_a_job_publishes_once(registry, put):
    first = put("m", job_id="job_1")
    revision = registry.revision()
    assert put("m", job_id="job_1", model=b"something else") == first
    assert list(registry.get_model(ALICE, "m").versions) == [1]
    assert registry.revision() == revision


def test_a_publication_that_joins_a_transaction_ends_with_it(registry, database, put):
    with pytest.raises(RuntimeError, match="later"), database.begin() as session:
        put("m", session=session)
        raise RuntimeError("something failed later")
    with pytest.raises(UnknownModel):
        registry.get_model(ALICE, "m")
    with database.begin() as session:
        put("m", session=session)
    assert registry.get_model(ALICE, "m").aliases == {"default": 1}


def test_files_staged_ahead_are_published_without_being_there_any_more(registry, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"graph")
    staged = registry.stage(ALICE, {MODEL_FILE: path})
    path.unlink()
    manifest = build_manifest()
    published = registry.publish(
        ALICE,
        name="m",
        manifest=manifest,
        certificate=build_certificate(manifest, b"graph"),
        artifacts=staged,
    )
    assert published.number == 1


def test_a_name_that_no_model_may_have_is_refused(put):
    with pytest.raises(InvalidRequest):
        put("No Such")


def test_a_version_for_another_task_does_not_join_the_line(put):
    put("m")
    with pytest.raises(Conflict, match="classification"):
        put("m", task=Task.SEGMENTATION)


def test_a_certificate_about_other_files_is_refused(registry, tmp_path):
    manifest = build_manifest()
    path = tmp_path / "model.onnx"
    path.write_bytes(b"graph")

    def attempt(certificate, manifest=manifest, artifacts=None):
        registry.publish(
            ALICE,
            name="m",
            manifest=manifest,
            certificate=certificate,
            artifacts=artifacts or {MODEL_FILE: path},
        )

    with pytest.raises(NotServable, match=r"model\.onnx"):
        attempt(build_certificate(manifest, b"another graph"))
    with pytest.raises(NotServable, match=r"manifest\.json"):
        attempt(build_certificate(manifest, b"graph"), manifest=build_manifest(labels=("dog", "cat")))
    with pytest.raises(NotServable, match=r"reference\.safetensors"):
        attempt(build_certificate(manifest, b"graph", b"samples that were not given"))
    with pytest.raises(NotServable, match=r"model\.onnx"):
        attempt(build_certificate(manifest, b"graph"), artifacts={"weights.bin": path})
    with pytest.raises(UnknownModel):
        registry.get_model(ALICE, "m")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_abs": 2e-4}, "differ by 0.0002"),
        ({"max_abs": float("nan")}, "differ"),
        ({"top1": 0.75}, "75.0%"),
        ({"samples": 0, "decided": 0}, "without stored samples"),
    ],
)
def test_a_certified_version_whose_agreement_fails_cannot_exist(registry, tmp_path, wrong, says):
    manifest = build_manifest()
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "reference.safetensors").write_bytes(b"samples")
    certificate = build_certificate(manifest, b"graph", b"samples", **wrong)
    artifacts = {path.name: path for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ParityFailed, match=says):
        registry.publish(ALICE, name="m", manifest=manifest, certificate=certificate, artifacts=artifacts)


def test_an_imported_version_needs_no_comparison(registry, put):
    put("m", reference=None)
    assert registry.get_version(ALICE, "m", 1).certificate.level is Level.IMPORTED
    assert registry.promote(ALICE, "m", "production", 1).number == 1


def test_no_alias_moves_to_a_version_whose_agreement_fails(registry, database, put):
    put("m")
    put("m", model=b"second")
    with database.begin() as session:  # as a release with a laxer rule might have left it
        row = session.scalars(select(VersionRow).where(VersionRow.number == 2)).one()
        row.certificate = {**row.certificate, "agreement": {**row.certificate["agreement"], "max_abs": 0.5}}
    with pytest.raises(NotServable, match="differ"):
        registry.promote(ALICE, "m", "default", 2)
    assert registry.get_model(ALICE, "m").aliases == {"default": 1}


def test_promote_moves_and_rollback_moves_back_and_forth(registry, put):
    for model in (b"one", b"two", b"three"):
        put("m", model=model)
    assert registry.promote(ALICE, "m", "default", 2).previous_number == 1
    assert registry.promote(ALICE, "m", "default", 3).previous_number == 2
    assert registry.promote(ALICE, "m", "default", 3).previous_number == 2  # nothing moved, nothing forgotten
    assert registry.rollback(ALICE, "m", "default").number == 2
    assert registry.rollback(ALICE, "m", "default").number == 3


def test_rollback_of_an_alias_that_never_moved_is_a_conflict_that_says_what_can_be_done(registry, put):
    put("m")
    with pytest.raises(Conflict) as refused:
        registry.rollback(ALICE, "m", "default")
    assert "1" in refused.value.hint


def test_unknown_things_answer_with_the_known_ones(registry, put):
    put("efficientnet")
    with pytest.raises(UnknownModel) as unknown:
        registry.get_model(ALICE, "eficientnet")
    assert "efficientnet" in unknown.value.hint
    for number in (2, 0, -1, 10**12):
        with pytest.raises(UnknownVersion) as unknown_version:
            registry.promote(ALICE, "efficientnet", "default", number)
        assert "1" in unknown_version.value.hint
    with pytest.raises(UnknownVersion) as unknown_version:
        registry.rollback(ALICE, "efficientnet", "prod\0uction")
    assert "default" in unknown_version.value.hint
    with pytest.raises(UnknownModel):
        registry.get_model(ALICE, "no\0where")


def test_what_an_alias_needs_is_not_deleted(registry, put):
    put("m")
    put("m", model=b"second")
    registry.promote(ALICE, "m", "production", 2)
    with pytest.raises(Conflict, match="m@production"):
        registry.delete_version(ALICE, "m", 2)
    with pytest.raises(Conflict, match="m@production"):
        registry.delete_model(ALICE, "m")
    with pytest.raises(Conflict, match="m@default"):
        registry.delete_alias(ALICE, "m", "default")
    registry.delete_alias(ALICE, "m", "production")
    registry.delete_version(ALICE, "m", 2)
    assert list(registry.get_model(ALICE, "m").versions) == [1]


def test_how_a_model_is_served_is_its_own_and_ends_with_it(registry, put):
    put("m")
    put("other")
    before = registry.revision()
    registry.set_serving(ALICE, "m", ServingOptions(pinned=True, threads=2))
    assert registry.revision() == before + 1
    registry.set_serving(ALICE, "m", ServingOptions(pinned=True, threads=2))
    assert registry.revision() == before + 1  # nothing has changed
    assert registry.get_model(ALICE, "m").serving == ServingOptions(pinned=True, threads=2)
    assert registry.load_snapshot().models[ALICE.tenant_id, "m"].serving.threads == 2
    assert registry.get_model(ALICE, "other").serving == ServingOptions()
    with pytest.raises(UnknownModel):
        registry.set_serving(BOB, "m", ServingOptions(pinned=True))
    registry.delete_model(ALICE, "m")
    put("m")
    assert registry.get_model(ALICE, "m").serving == ServingOptions()


def test_a_deleted_version_is_nobodys_way_back(registry, put):
    put("m")
    put("m", model=b"second")
    registry.promote(ALICE, "m", "default", 2)
    registry.delete_version(ALICE, "m", 1)
    with pytest.raises(Conflict, match="no version to go back to"):
        registry.rollback(ALICE, "m", "default")


def test_a_number_is_never_used_again(registry, put):
    put("m")
    put("m", model=b"second")
    registry.delete_version(ALICE, "m", 2)
    assert put("m", model=b"third").number == 3
    registry.delete_model(ALICE, "m")
    with pytest.raises(UnknownModel):
        registry.get_model(ALICE, "m")
    assert put("m", model=b"fourth", task=Task.SEGMENTATION).number == 4
    model = registry.get_model(ALICE, "m")
    assert model.aliases == {"default": 4}
    assert model.task is Task.SEGMENTATION


def test_deleting_keeps_the_bytes_that_others_need(registry, objects, put):
    put("m", model=b"only here")
    put("m", model=b"shared")
    put("other", model=b"shared")
    registry.promote(ALICE, "m", "default", 2)
    registry.delete_version(ALICE, "m", 1)
    assert not objects.exists(ALICE, sha256_hex(b"only here"))
    assert objects.exists(ALICE, sha256_hex(b"samples"))
    registry.delete_model(ALICE, "m")
    assert objects.read(ALICE, sha256_hex(b"shared")) == b"shared"
    registry.delete_model(ALICE, "other")
    with pytest.raises(NotFound):
        objects.read(ALICE, sha256_hex(b"shared"))


def test_tenants_do_not_see_each_other(registry, put, tmp_path):
    put("m")
    assert registry.list_models(BOB) == []
    for act in (
        lambda: registry.get_version(BOB, "m", 1),
        lambda: registry.promote(BOB, "m", "default", 1),
        lambda: registry.rollback(BOB, "m", "default"),
        lambda: registry.delete_model(BOB, "m"),
    ):
        with pytest.raises(UnknownModel):
            act()
    assert publish(registry, BOB, tmp_path, name="m").number == 1
    registry.delete_model(BOB, "m")
    assert registry.get_model(ALICE, "m").aliases == {"default": 1}


def test_every_change_bumps_the_revision(registry, put):
    seen = [registry.revision()]

    def check(change):
        change()
        seen.append(registry.revision())
        assert seen[-1] > seen[-2]

    check(lambda: put("m"))
    check(lambda: put("m", model=b"second"))
    check(lambda: registry.promote(ALICE, "m", "default", 2))
    check(lambda: registry.rollback(ALICE, "m", "default"))
    check(lambda: registry.promote(ALICE, "m", "production", 1))
    check(lambda: registry.delete_alias(ALICE, "m", "production"))
    check(lambda: registry.delete_version(ALICE, "m", 2))
    check(lambda: registry.delete_model(ALICE, "m"))
    registry.list_models(ALICE)
    registry.load_snapshot()
    assert registry.revision() == seen[-1]


def test_a_snapshot_holds_every_tenant_and_the_keys_in_force(registry, database, put, tmp_path):
    put("m")
    publish(registry, BOB, tmp_path, name="n")
    with database.begin() as session:
        for number, revoked_at in ((1, None), (2, 5.0)):
            session.add(
                ApiKeyRow(
                    id=f"key_{number}",
                    tenant_id="bob",
                    name="k",
                    sha256=f"{number:064}",
                    created_at=1.0,
                    revoked_at=revoked_at,
                )
            )
    snapshot = registry.load_snapshot()
    assert set(snapshot.models) == {("alice", "m"), ("bob", "n")}
    assert snapshot.models["bob", "n"].versions[1].certificate.level is Level.CERTIFIED
    assert snapshot.keys == {f"{1:064}": Principal(tenant_id="bob", key_id="key_1")}
    assert snapshot.revision == registry.revision()


def test_a_later_snapshot_follows_changes_and_reads_only_what_is_new(registry, put):
    put("m")
    first = registry.load_snapshot()
    put("m", model=b"second")
    registry.promote(ALICE, "m", "default", 2)
    second = registry.load_snapshot()
    assert second.models["alice", "m"].aliases == {"default": 2}
    assert list(second.models["alice", "m"].versions) == [1, 2]
    assert second.models["alice", "m"].versions[1] is first.models["alice", "m"].versions[1]
    registry.promote(ALICE, "m", "default", 1)
    registry.delete_version(ALICE, "m", 2)
    assert list(registry.load_snapshot().models["alice", "m"].versions) == [1]
