"""Compare figures of language models with their definitions."""

import math

import numpy as np
import pytest

from onebit.metrics import TextMetrics, nats_of


def test_figures_are_their_definitions():
    metrics = TextMetrics("a tokenizer", 8, tokens_per_byte=0.25)
    nats = np.array([1.0, 2.0, 0.5, 0.1])
    right = np.array([True, False, False, True])
    metrics.add(nats[:2], right[:2], np.array([True, True]))
    metrics.add(nats[2:], right[2:], np.array([True, False]))
    figures = metrics.figures(padded=True)
    loss = 3.5 / 3
    assert figures["loss"] == pytest.approx(loss)
    assert figures["perplexity"] == pytest.approx(math.exp(loss))
    assert figures["accuracy"] == pytest.approx(1 / 3)
    assert figures["bits_per_byte"] == pytest.approx(loss / math.log(2) / 4)
    assert (figures["tokens"], figures["tokenizer"], figures["context"]) == (3, "a tokenizer", 8)
    assert figures["padded_perplexity_not_comparable"] == pytest.approx(math.exp(3.6 / 4))
    assert figures["padded_accuracy_not_comparable"] == pytest.approx(0.5)
    assert not [key for key in metrics.figures() if "padded" in key]


def test_nats_are_cross_entropy():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 7)).astype(np.float32) * 50
    targets = rng.integers(0, 7, 5)
    nats, right = nats_of(logits, targets)
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    expected = -np.log(powers / powers.sum(-1, keepdims=True))[np.arange(5), targets]
    np.testing.assert_allclose(nats, expected, rtol=1e-4, atol=1e-4)
    assert right.tolist() == (logits.argmax(-1) == targets).tolist()
