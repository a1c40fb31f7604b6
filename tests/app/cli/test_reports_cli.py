"""`athanor reports` as a person would type it, against a real service."""

import json
import time

import pytest

from app.access.principal import SYSTEM
from app.db.tables import JobRow
from app.ids import new_id
from models.evaluate.report import REPORT_HTML_FILE, REPORT_JSON_FILE, TrainingReport
from models.evaluate.report_html import render
from models.manifest import MODEL_FILE
from tests.colour_models import write_colour_model
from tests.models.evaluate.report_world import (
    build_evaluation,
    build_mask_report,
    build_picture_report,
    build_report,
)
from tests.registry_world import build_certificate, build_manifest

LABELS = ("rose", "tulip", "\x1b[2Jcleared")


def add_job(publish, status, result):
    """The row of a training as its worker leaves it."""
    job_id = new_id("job")
    with publish.database.begin() as session:
        session.add(
            JobRow(
                id=job_id,
                tenant_id=SYSTEM.tenant_id,
                kind="fine_tune",
                status=status,
                spec={},
                result=result,
                progress=1.0,
                attempts=1,
                cancel_requested=False,
                pause_requested=False,
                lease_token=1,
                priority=0,
                ran_s=1.0,
                created_at=time.time(),
                finished_at=time.time(),
            )
        )
    return job_id


@pytest.fixture
def trained(publish, tmp_path):
    """A version that was trained here, the alias `best` at it, and the job that published it."""
    report = build_report(evaluation=build_evaluation(labels=LABELS))
    files = {
        MODEL_FILE: tmp_path / MODEL_FILE,
        REPORT_JSON_FILE: tmp_path / REPORT_JSON_FILE,
        REPORT_HTML_FILE: tmp_path / REPORT_HTML_FILE,
    }
    write_colour_model(files[MODEL_FILE])
    files[REPORT_JSON_FILE].write_bytes(report.to_json())
    files[REPORT_HTML_FILE].write_text(render(report))
    manifest = build_manifest(labels=LABELS)
    version = publish.registry.publish(
        SYSTEM,
        name="trained",
        manifest=manifest,
        certificate=build_certificate(manifest, files[MODEL_FILE].read_bytes()),
        artifacts=files,
    )
    publish.registry.promote(SYSTEM, "trained", "best", version.number)
    return report, version, add_job(publish, "succeeded", {"model": str(version)})


def test_a_report_is_shown_by_job_and_by_every_way_to_name_a_version(athanor, trained):
    report, version, job_id = trained
    shown = {athanor("reports", "show", name).out for name in (job_id, str(version), "trained@best")}
    assert len(shown) == 1
    [text] = shown
    lines = text.splitlines()
    evaluation = report.evaluation
    assert lines[0] == f"{version}: efficientnet-lite0:1 trained on flowers:1 by {report.job_id}"
    assert lines[1].startswith(
        f"Right on {round(evaluation.accuracy * 60)} of 60 test pictures (95% interval"
    )
    assert lines[2] == "121,344 of 3,413,024 weights, 200 steps (kept: 160), 3 min 33 s."
    marks = {line.split("  ")[0]: line.split() for line in lines if "%" in line}
    assert marks["this run"][2:4] == [f"{evaluation.accuracy:.1%}", f"{evaluation.macro_f1:.1%}"]
    assert marks["always “rose”"][2] == "33.3%"
    tulip = evaluation.classes[1]
    assert marks["tulip"][1:] == [f"{tulip.f1:.1%}", f"{tulip.precision:.1%}", f"{tulip.recall:.1%}", "20"]


def test_a_report_of_masks_is_shown_with_its_overlaps(athanor, trained, publish, tmp_path):
    report, marks = build_mask_report(), build_mask_report().evaluation
    files = {MODEL_FILE: tmp_path / MODEL_FILE, REPORT_JSON_FILE: tmp_path / "masks.json"}
    files[REPORT_JSON_FILE].write_bytes(report.to_json())
    version = publish.registry.publish(
        SYSTEM,
        name="shores",
        manifest=(manifest := build_manifest()),
        certificate=build_certificate(manifest, files[MODEL_FILE].read_bytes()),
        artifacts=files,
    )
    lines = athanor("reports", "show", str(version)).out.splitlines()
    assert lines[1] == f"Mean IoU {marks.mean_iou:.1%} on 15 test pictures."
    shown = {line.split("  ")[0]: line.split() for line in lines if "%" in line}
    assert shown["this run"][2:] == [
        f"{value:.1%}" for value in (marks.mean_iou, marks.mean_dice, marks.pixel_accuracy)
    ]
    sea = marks.classes[1]
    assert shown["sea"][1:] == [f"{sea.iou:.1%}", f"{sea.dice:.1%}", f"{sea.pixels:,}", "15"]


def test_a_report_on_made_pictures_has_their_marks_beside_cubic_interpolations(athanor, publish, tmp_path):
    report, marks = build_picture_report(), build_picture_report().evaluation
    files = {MODEL_FILE: tmp_path / MODEL_FILE, REPORT_JSON_FILE: tmp_path / "pictures.json"}
    write_colour_model(files[MODEL_FILE])
    files[REPORT_JSON_FILE].write_bytes(report.to_json())
    version = publish.registry.publish(
        SYSTEM,
        name="made-larger",
        manifest=(manifest := build_manifest()),
        certificate=build_certificate(manifest, files[MODEL_FILE].read_bytes()),
        artifacts=files,
    )
    said = athanor("reports", "show", str(version)).out
    assert f"{marks.gain:+.2f} dB over cubic interpolation on 5 test pictures, 2 times as large." in said
    for text in (f"{marks.psnr:.2f} dB", f"{marks.cubic_psnr:.2f} dB", f"{marks.ssim:.4f}"):
        assert text in said
    assert [sample.name in said for sample in marks.worst] == [True] * 5


def test_what_strangers_named_does_not_steer_the_terminal(athanor, trained):
    text = athanor("reports", "show", str(trained[1])).out
    assert "\x1b" not in text
    assert "\N{REPLACEMENT CHARACTER}[2Jcleared" in text


def test_for_machines_a_report_is_its_json(athanor, trained):
    report, version, _ = trained
    said = athanor("reports", "show", str(version), "--json")
    assert TrainingReport.model_validate(said.json) == report
    assert said.json == json.loads(report.to_json())


def test_a_saved_report_is_the_page_and_replaces_nothing_unasked(athanor, trained):
    report, version, job_id = trained
    said = athanor("reports", "save", job_id)
    assert said.out.startswith(f"report.html: the report of {version}, ")
    page = athanor.folder / "report.html"
    assert page.read_text() == render(report)
    page.write_text("mine")
    assert "--force replaces it" in athanor.refuses("reports", "save", job_id, code=2)
    assert page.read_text() == "mine"
    forced = athanor("reports", "save", job_id, "--force", "--json").json
    assert forced == {"model": str(version), "path": "report.html", "bytes": len(render(report).encode())}
    page.unlink()
    assert athanor("reports", "save", str(version), "--to", "pictures").code == 0
    (athanor.folder / "pictures" / "report.html").unlink()
    assert "cannot be written" in athanor.refuses("reports", "save", job_id, "--to", "no/r.html", code=2)


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("colours", "colours:1 has no report: it was not trained here."),
        ("colours@beta", "colours has no alias 'beta'."),
        ("colours:9", "has no version 9"),
        ("colour", "Did you mean colours?"),
        ("Colours!", "is not a model reference"),
        ("job_" + "0" * 24, "There is no job"),
    ],
)
def test_what_has_no_report_is_said(athanor, subject, says):
    for verb in ("show", "save"):
        assert says in athanor.refuses("reports", verb, subject)


def test_a_job_that_has_published_nothing_says_how_it_is(athanor, publish):
    job_id = add_job(publish, "failed", None)
    refused = athanor.refuses("reports", "show", job_id)
    assert f"{job_id} is failed and has published no version." in refused
