"""The report as JSON, and the curves in it."""

import json

import numpy as np
import pytest

from models.evaluate.curves import curves_of
from models.evaluate.report import TrainingReport
from tests.models.evaluate.report_world import HOSTILE, build_evaluation, build_report


def test_a_report_comes_back_from_its_json_as_it_was():
    report = build_report()
    assert TrainingReport.model_validate_json(report.to_json()) == report
    plain = json.loads(report.to_json())
    assert plain["evaluation"]["baseline"]["label"] == "rose"
    assert plain["curves"]["valid_loss"]["steps"][:2] == [20, 40]


def test_names_and_labels_are_kept_as_they_are():
    labels = (HOSTILE, "日本", "-")
    report = TrainingReport.model_validate_json(
        build_report(evaluation=build_evaluation(labels=labels)).to_json()
    )
    assert tuple(each.label for each in report.evaluation.classes) == labels


def test_a_field_that_only_other_releases_have_is_passed_over():
    report = build_report()
    plain = json.loads(report.to_json())
    assert TrainingReport.model_validate({**plain, "beside": []}) == report


def test_curves_take_rows_in_any_order_and_the_last_word_on_a_step():
    found = curves_of([(2, {"loss": 1.0}), (1, {"loss": 3.0, "accuracy": 0.5}), (2, {"loss": 2.0})])
    assert list(found) == ["loss", "accuracy"]
    assert (found["loss"].steps, found["loss"].values) == ((1, 2), (3.0, 2.0))


def test_curves_leave_out_what_is_not_finite():
    found = curves_of([(1, {"loss": float("nan")}), (2, {"loss": 1.0, "other": float("inf")})])
    assert {name: curve.steps for name, curve in found.items()} == {"loss": (2,)}


def test_a_long_curve_is_thinned_to_means_that_keep_its_course():
    values = np.random.default_rng(0).normal(size=10_007)
    found = curves_of(((step, {"loss": value}) for step, value in enumerate(values)), points=100)["loss"]
    assert len(found.steps) == len(found.values) == 100
    assert found.steps[-1] == 10_006
    assert list(found.steps) == sorted(set(found.steps))
    starts = [0, *(step + 1 for step in found.steps[:-1])]
    for start, step, value in zip(starts, found.steps, found.values, strict=True):
        assert value == pytest.approx(values[start : step + 1].mean())
