"""The page of a segmenter's report."""

from models.evaluate.mask_report_html import render_masks
from models.evaluate.report import MaskReport, TrainingReport, read_report
from tests.models.evaluate.report_world import HOSTILE, build_mask_report, build_report, jpeg


def test_the_page_has_every_label_and_the_listed_pictures():
    report = build_mask_report()
    marks = report.evaluation
    listed = [sample.index for sample in (*marks.worst, *marks.best)]
    page = render_masks(report, pictures={index: jpeg(seed=index) for index in listed})
    assert page.count("data:image/jpeg;base64,") == len(listed) == 24
    for each in marks.classes:
        assert f"{each.iou:.1%}" in page
        assert each.label in page
    for mark in (marks.mean_iou, marks.mean_dice, marks.pixel_accuracy, marks.frequency_weighted_iou):
        assert f"{mark:.1%}" in page
    assert "How it was made" in page


def test_what_strangers_named_is_text():
    page = render_masks(build_mask_report(labels=("sky", HOSTILE), name=HOSTILE + "{index}"))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script" in page


def test_a_report_is_read_as_what_it_is():
    for report, kind in ((build_mask_report(), MaskReport), (build_report(), TrainingReport)):
        again = read_report(report.to_json())
        assert type(again) is kind
        assert again == report
