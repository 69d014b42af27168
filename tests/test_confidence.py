"""Compare the reliability of answers and the temperature with independently written formulas."""

import numpy as np
import pytest

from onebit.confidence import fit_temperature, reliability
from onebit.metrics import AnswerMetrics


def drawn(temperature, count=4000, classes=5, seed=0):
    """Logits, and labels that are drawn from the softmax of the logits over a temperature."""
    random = np.random.default_rng(seed)
    logits = 3 * random.normal(size=(count, classes))
    powers = np.exp(logits / temperature)
    shares = powers / powers.sum(1, keepdims=True)
    return logits, (shares.cumsum(1) < random.random((count, 1))).sum(1)


def cross_entropy(logits, labels, temperature, doubt=0.0):
    scaled = logits / temperature
    wanted = doubt / logits.shape[1] + (1 - doubt) * np.eye(logits.shape[1])[labels]
    return -(wanted * (scaled - np.log(np.exp(scaled).sum(1, keepdims=True)))).sum(1).mean()


@pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0, 2.5])
def test_the_temperature_is_that_which_the_labels_were_drawn_with(temperature):
    logits, labels = drawn(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.1)
    least = cross_entropy(logits, labels, found, 1 / 4002)
    for other in (0.97 * found, 1.03 * found):
        assert cross_entropy(logits, labels, other, 1 / 4002) > least


def test_a_temperature_scales_with_the_logits():
    logits, labels = drawn(1.0)
    assert fit_temperature(7 * logits, labels) == pytest.approx(7 * fit_temperature(logits, labels), rel=1e-6)


@pytest.mark.parametrize("count", [1, 10, 100, 1000])
def test_answers_that_are_all_right_do_not_make_a_network_certain(count):
    labels = np.arange(count) % 10
    logits = np.eye(10)[labels]
    powers = np.exp(logits / fit_temperature(logits, labels))
    confidence = (powers / powers.sum(1, keepdims=True)).max(1).mean()
    # What is left of the labels' weight when all classes have their share of the doubt.
    assert confidence == pytest.approx(1 - 0.9 / (count + 2), abs=1e-6)


def test_a_temperature_has_a_bound_where_answers_are_all_wrong():
    logits = np.eye(10)
    assert fit_temperature(logits, (np.arange(10) + 1) % 10) == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(
    "logits",
    [np.zeros((0, 3)), np.ones((4, 3)), np.array([[0.0, np.nan]]), np.array([[0.0, np.inf]])],
    ids=["no answers", "all equal", "not a number", "infinite"],
)
def test_without_information_the_temperature_is_one(logits):
    assert fit_temperature(logits, np.zeros(len(logits), int)) == 1.0


def test_large_logits_do_not_overflow():
    logits, labels = drawn(1.0)
    assert fit_temperature((1e5 * logits).astype(np.float32), labels) == pytest.approx(100)


def test_reliability_counts_each_bin():
    found = reliability(np.array([0.05, 0.5, 0.45, 1.0]), np.array([False, True, False, True]), bins=2)
    assert found.counts == (3, 1)
    assert found.confidence == pytest.approx(((0.05 + 0.5 + 0.45) / 3, 1.0))
    assert found.accuracy == pytest.approx((1 / 3, 1.0))
    assert found.error == pytest.approx((3 / 4) * 0.0 + (1 / 4) * 0.0)


def test_the_calibration_error_is_the_distance_between_confidence_and_accuracy():
    # 73 % sure, and right 99 times of 100.
    right = np.arange(100) != 50
    assert reliability(np.full(100, 0.73), right).error == pytest.approx(0.26)


def test_reliability_needs_answers():
    with pytest.raises(ValueError, match="no answers"):
        reliability(np.zeros(0), np.zeros(0, bool))


def test_the_figures_are_those_of_all_batches_together():
    logits, labels = (array.astype(kind) for array, kind in zip(drawn(1.0), (np.float32, np.int64), strict=True))
    metrics = AnswerMetrics()
    for first in range(0, len(labels), 700):
        metrics.add(logits[first : first + 700], labels[first : first + 700])
    figures = metrics.figures()
    powers = np.exp(logits.astype(np.float64))
    sure = (powers / powers.sum(1, keepdims=True)).max(1)
    assert figures["images"] == len(labels)
    assert figures["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean())
    assert figures["loss"] == pytest.approx(cross_entropy(logits.astype(np.float64), labels, 1.0), rel=1e-5)
    assert figures["confidence"] == pytest.approx(sure.mean(), rel=1e-5)
    # The labels are drawn from these probabilities: only chance is between confidence and accuracy.
    assert figures["calibration_error"] < 0.02
    assert metrics.reliability.error == figures["calibration_error"]
