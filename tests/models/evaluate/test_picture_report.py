"""The page of a report on a network that enlarges pictures."""

from models.evaluate.picture_report_html import render_pictures
from models.evaluate.report import PictureReport, read_report
from tests.models.evaluate.report_world import HOSTILE, build_picture_report, jpeg


def test_the_page_has_the_marks_beside_cubic_interpolations_and_the_listed_pictures():
    report = build_picture_report()
    evaluation = report.evaluation
    listed = [sample.index for sample in (*evaluation.worst, *evaluation.best)]
    page = render_pictures(report, crops={index: jpeg(seed=index) for index in listed})
    assert page.count("data:image/jpeg;base64,") == len(listed) == 10
    for text in (f"{evaluation.psnr:.2f} dB", f"{evaluation.cubic_psnr:.2f} dB", f"{evaluation.ssim:.4f}"):
        assert text in page
    for sample in evaluation.worst:
        assert f"{sample.gain:+.2f} dB" in page
        assert sample.name in page
    assert "How it was made" in page


def test_curves_of_decibels_have_plots_of_their_own():
    rows = [(step, {"valid_psnr": 30 + step / 100, "valid_psnr_gain": step / 100}) for step in (10, 20, 30)]
    page = render_pictures(build_picture_report(rows=rows))
    assert "PSNR, dB" in page
    assert "Gain over cubic interpolation, dB" in page


def test_what_strangers_named_is_text():
    page = render_pictures(build_picture_report(name=HOSTILE + "{index}"))
    assert "<script" not in page
    assert "&lt;script" in page


def test_a_report_is_read_as_what_it_is():
    report = build_picture_report()
    again = read_report(report.to_json())
    assert type(again) is PictureReport
    assert again == report
