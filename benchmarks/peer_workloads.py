"""The workloads of benchmarks/peers.py, their jobs, and the exact number of multiply-accumulates of each.

A multiply-accumulate is one product of a weight and an activation, or of two activations in attention, in the mathematical definition. Products with
an image's padding count. Biases, normalisations and activation functions do not. A prompt counts every token in every block and the logits of the
last token. An engine that skips the last block's work for other tokens keeps this as its gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from image_network import CLASSES, SIZE
from language_decoder import TOKENS

KERNEL_SIZES = (3, 5)
DECODER = "small"
DENSE_FEATURES = 4096
DENSE_ROWS = (1, 256)
KINDS = ("cnn", "decoder", "dense")

IMAGE = "an image"
FIRST_TOKENS, LAST_TOKENS, PROMPT = "a token at the beginning", "a token at the end", "a prompt of 256 tokens"


def dense_job(rows: int) -> str:
    """The name of a dense layer's job."""
    return "1 row" if rows == 1 else f"{rows} rows"


@dataclass(frozen=True)
class LlamaSizes:
    """A llama's sizes; those given here are the small decoder's as far as the architecture has them.

    Its vocabulary is rounded up to a multiple of 64 and its heads are 12 of 64 features instead of 16 of 48, as llama.cpp's fastest kernels want.
    """

    vocabulary: int = 30528
    context: int = 256
    blocks: int = 12
    features: int = 768
    heads: int = 12
    hidden: int = 1536


def attention(features: int, before: int, tokens: int) -> int:
    """Attention of tokens after `before` others, where each sees itself and the tokens before it: scores, and sums of the values."""
    return sum(2 * features * (position + 1) for position in range(before, before + tokens))


def image_network(
    kernel_size: int,
    blocks: Sequence[int],
    hidden: Sequence[int],
    classes: int = CLASSES,
    side: int = SIZE,
    in_channels: int = 3,
) -> int:
    """Of an image in the paper's classifier: two 'same' convolutions a block, sides halved between blocks, then dense layers."""
    total, inputs = 0, in_channels
    for width in blocks:
        total += side * side * kernel_size**2 * (inputs * width + width * width)
        inputs, side = width, side // 2
    for width in (*hidden, classes):
        total, inputs = total + inputs * width, width
    return total


def decoder(
    features: int, blocks: int, head: Sequence[int], vocabulary: int, before: int, tokens: int, logits: int
) -> int:
    """The paper's decoder: `tokens` new tokens after `before` others, with the logits after `logits` of them."""
    # Four projections, and a hidden layer of twice the features.
    total = blocks * (tokens * 8 * features**2 + attention(features, before, tokens))
    inputs = features
    for width in (*head, vocabulary):
        total, inputs = total + logits * inputs * width, width
    return total


def llama(sizes: LlamaSizes, before: int, tokens: int, logits: int) -> int:
    """The same for a llama: four projections, three matrices after them, and one to the logits."""
    weights = 4 * sizes.features**2 + 3 * sizes.features * sizes.hidden
    return (
        sizes.blocks * (tokens * weights + attention(sizes.features, before, tokens))
        + logits * sizes.features * sizes.vocabulary
    )


def multiply_accumulates() -> dict[str, dict[str, dict[str, float]]]:
    """Of each workload, of each model that computes it ("onebit's" or "llama"), of each job; a token's is the mean of those written."""
    from onebit.models.classifier import NAMED_WIDTHS
    from onebit.models.decoder import NAMED_SIZES

    sizes, named = LlamaSizes(), NAMED_SIZES[DECODER]
    ours = (named["features"], named["blocks"], named["head"], named["vocabulary"])
    end = named["context"] - TOKENS
    counts: dict[str, dict[str, dict[str, float]]] = {
        f"cnn {kernel}x{kernel}": {"onebit's": {IMAGE: image_network(kernel, *NAMED_WIDTHS["counted"])}}
        for kernel in KERNEL_SIZES
    }
    counts["decoder"] = {
        "onebit's": {
            FIRST_TOKENS: decoder(*ours, 0, TOKENS, TOKENS) / TOKENS,
            LAST_TOKENS: decoder(*ours, end, TOKENS, TOKENS) / TOKENS,
            PROMPT: decoder(*ours, 0, named["context"], 1),
        },
        "llama": {
            FIRST_TOKENS: llama(sizes, 0, TOKENS, TOKENS) / TOKENS,
            LAST_TOKENS: llama(sizes, end, TOKENS, TOKENS) / TOKENS,
            PROMPT: llama(sizes, 0, sizes.context, 1),
        },
    }
    counts["dense"] = {"onebit's": {dense_job(rows): rows * DENSE_FEATURES**2 for rows in DENSE_ROWS}}
    return counts
