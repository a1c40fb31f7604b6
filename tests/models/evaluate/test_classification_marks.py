"""Marks of a classifier against scikit-learn and against plain loops."""

import math

import numpy as np
import pytest
from sklearn import metrics

from models.evaluate.classification import BINS, evaluate

CASES = [
    (seed, pictures, classes)
    for seed, (pictures, classes) in enumerate([(1, 2), (7, 2), (50, 3), (200, 7), (400, 40), (9000, 12)])
]


def drawn(seed, pictures, classes, *, sharpness=2.0):
    """Logits that are right more often than not; with many classes some of them never occur."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, pictures)
    targets[targets == classes - 1] = 0  # the last class has no picture
    logits = rng.normal(size=(pictures, classes)).astype(np.float32) * sharpness
    logits[np.arange(pictures), targets] += sharpness
    return logits, targets


def marked(logits, targets, **options):
    labels = [f"label {index}" for index in range(logits.shape[1])]
    return evaluate(logits, targets, labels, [f"{index}.png" for index in range(len(targets))], **options)


def soft_max(logits):
    shares = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("seed", "pictures", "classes"), CASES)
def test_marks_are_those_of_scikit_learn(seed, pictures, classes):
    logits, targets = drawn(seed, pictures, classes)
    found, predicted, every = marked(logits, targets), logits.argmax(axis=1), np.arange(classes)
    assert found.samples == pictures
    assert found.accuracy == pytest.approx(metrics.accuracy_score(targets, predicted))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(targets, predicted, average="macro"))
    assert found.nll == pytest.approx(metrics.log_loss(targets, soft_max(logits), labels=every))
    if classes > 5:
        top5 = metrics.top_k_accuracy_score(targets, logits, k=5, labels=every)
        assert found.top5_accuracy == pytest.approx(top5)
    else:
        assert found.top5_accuracy is None
    dense = np.zeros((classes, classes), int)
    for actual, answer, count in found.confusion:
        dense[actual, answer] = count
    assert np.array_equal(dense, metrics.confusion_matrix(targets, predicted, labels=every))


@pytest.mark.parametrize(("seed", "pictures", "classes"), CASES)
def test_each_class_has_the_marks_of_scikit_learn_and_none_where_there_is_nothing(seed, pictures, classes):
    logits, targets = drawn(seed, pictures, classes)
    found, predicted = marked(logits, targets).classes, logits.argmax(axis=1)
    expected = metrics.precision_recall_fscore_support(
        targets, predicted, labels=np.arange(classes), zero_division=0
    )
    assert len(found) == classes
    for each, precision, recall, f1, support in zip(found, *expected, strict=True):
        assert each.support == support
        assert (each.precision or 0.0) == pytest.approx(precision)
        assert (each.recall or 0.0) == pytest.approx(recall)
        assert (each.f1 or 0.0) == pytest.approx(f1)
        assert (each.precision is None) == (each.predicted == 0)
        assert (each.recall is None) == (each.support == 0)
        assert (each.f1 is None) == (each.support == each.predicted == 0)
    assert found[-1].recall is None


@pytest.mark.parametrize(("seed", "pictures", "classes"), CASES)
def test_calibration_equals_a_loop_over_the_pictures(seed, pictures, classes):
    logits, targets = drawn(seed, pictures, classes)
    found = marked(logits, targets)
    gathered = [[] for _ in range(BINS)]
    for shares, target in zip(soft_max(logits), targets, strict=True):
        sure = max(shares)
        place = next(at for at in range(BINS) if at / BINS < sure <= (at + 1) / BINS + 1e-12)
        gathered[place].append((sure, float(np.argmax(shares) == target)))
    error = 0.0
    for each, members in zip(found.calibration, gathered, strict=True):
        assert each.count == len(members)
        if members:
            sure, right = (sum(column) / len(members) for column in zip(*members, strict=True))
            assert (each.confidence, each.accuracy) == (pytest.approx(sure), pytest.approx(right))
            error += len(members) / pictures * abs(sure - right)
        else:
            assert (each.confidence, each.accuracy) == (None, None)
    assert found.ece == pytest.approx(error)
    assert sum(each.count for each in found.calibration) == pictures


def test_perfect_confidence_belongs_to_the_last_bin():
    found = marked(np.array([[1000.0, 0.0], [0.0, 1000.0]], np.float32), np.array([0, 0]))
    assert [each.count for each in found.calibration] == [0] * 14 + [2]
    assert (found.nll, found.ece) == (500.0, 0.5)


def test_the_baseline_is_the_best_answer_that_never_looks():
    targets = np.array([0, 1, 1, 1, 2, 2])
    found = marked(np.eye(3, dtype=np.float32)[targets], targets).baseline
    always = np.full(6, 1)
    assert found.label == "label 1"
    assert found.accuracy == pytest.approx(metrics.accuracy_score(targets, always))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(targets, always, average="macro"))
    shares = np.tile([1 / 6, 3 / 6, 2 / 6], (6, 1))
    assert found.nll == pytest.approx(metrics.log_loss(targets, shares))


def test_the_worst_come_first_with_what_they_are_and_were_taken_for():
    logits, targets = drawn(3, 200, 7)
    found = marked(logits, targets, worst=10).worst
    losses = -np.log(soft_max(logits)[np.arange(200), targets])
    assert [each.index for each in found] == np.argsort(-losses, kind="stable")[:10].tolist()
    for each in found:
        assert each.name == f"{each.index}.png"
        assert each.label == f"label {targets[each.index]}"
        assert each.predicted == f"label {logits[each.index].argmax()}"
        assert each.loss == pytest.approx(losses[each.index])
        assert each.share == pytest.approx(math.exp(-each.loss))
        assert each.confidence == pytest.approx(soft_max(logits)[each.index].max())


def test_equal_logits_go_by_index_as_in_the_codec():
    found = marked(np.zeros((2, 7), np.float32), np.array([0, 5]))
    assert found.confusion == ((0, 0, 1), (5, 0, 1))
    assert found.top5_accuracy == 0.5  # the sixth of seven equal ones is not among the first five


@pytest.mark.parametrize(
    ("right", "pictures", "interval"),
    [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1.0)), (81, 100, (0.7222, 0.8749))],
)
def test_the_interval_is_wilsons(right, pictures, interval):
    targets = np.zeros(pictures, int)
    logits = np.zeros((pictures, 2), np.float32)
    logits[right:, 1] = 1.0
    assert marked(logits, targets).accuracy_interval == pytest.approx(interval, abs=1e-4)


@pytest.mark.parametrize(
    ("logits", "targets", "says"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "no picture"),
        (np.zeros((2, 2)), np.zeros(3, int), "do not fit"),
        (np.zeros((2, 2)), np.array([0, 2]), "outside 0..1"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), np.zeros(2, int), "1.png are not finite"),
    ],
)
def test_what_cannot_be_marked_is_refused(logits, targets, says):
    with pytest.raises(ValueError, match=says):
        marked(logits, targets)
