"""Training of language models: it learns, repeats itself, resumes exactly, and its figures are honest."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from onebit.data.examples import NOT_COUNTED
from onebit.data.text import load_text
from onebit.errors import DataError, OnebitError, RecipeError
from onebit.text import Tokenizer
from onebit.training import TextRecipe, evaluate_text, load_recipe, load_run, train
from onebit.training.windows import TextBatches

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A counting song: after each word there is only one that can follow."""
    path = tmp_path_factory.mktemp("text") / "song.txt"
    path.write_text("".join(" ".join(WORDS[i % 10 :] + WORDS[: i % 10]) + "\n" for i in range(1500)))
    return path


@pytest.fixture(scope="module")
def recipe(text):
    return TextRecipe(
        form="paper", data=str(text), vocabulary=290, context=16, blocks=1, features=32, heads=2, head=(32,), residual_scale=0.35,
        logit_scale=3.0, latent_spread=0.25, embedding_spread=0.1, epochs=3, epoch_steps=15, batch_size=8, learning_rate=4e-3,
        warmup=5, clip=1.0, threads=1, precision="float32",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    return train(recipe, tmp_path_factory.mktemp("runs") / "song", progress=False)


def state(run):
    return {key: value.clone() for key, value in run.model.state_dict().items()}


def test_options_of_latents_reach_the_network(recipe, tmp_path):
    keys = {
        "threshold": "output", "latent_clip": 0.02, "pre_norm": True, "embedding_rate": 3.0, "epochs": 1, "learning_rate": 0.01,
    }  # fmt: skip
    run = train(recipe.override(keys), tmp_path / "run", progress=False)
    latents = dict(run.model.named_parameters())
    assert max(p.detach().abs().max() for p in latents.values()) == pytest.approx(0.02)
    layer = run.model.blocks[0].expand
    assert torch.equal(layer.bits().weight, layer.weight > layer.weight.mean(1, keepdim=True))
    assert run.model.head_norm is not None
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    groups = content["optimizer_states"][0]["param_groups"]
    # A table and a bias each of tokens and positions.
    assert [(group["initial_lr"], len(group["params"])) for group in groups] == [
        (0.01, len(latents) - 4),
        (pytest.approx(0.03), 4),
    ]


def test_it_learns(trained):
    rows = trained.curves()
    assert rows[-1]["val_loss"] < 0.6 * rows[0]["train_loss"]
    # by chance a token of 290 costs this much
    assert trained.result()["validation_loss"] < 0.4 * math.log(290)


def test_a_run_tells_what_was_measured(trained):
    result = trained.result()
    assert result["validation_context"] == 16
    assert result["validation_tokenizer"].startswith("WordPiece over bytes, ")
    assert result["validation_tokens"] > 100
    bits = result["validation_loss"] / math.log(2)
    splits = load_text(trained.recipe.data.source, 290)
    assert result["validation_bits_per_byte"] == pytest.approx(bits * splits.validation.tokens_per_byte)
    assert trained.curves()[-1]["val_bits_per_byte"] == pytest.approx(result["validation_bits_per_byte"], rel=1e-4)
    assert not [key for key in result if "padded" in key]


def test_the_same_recipe_gives_the_same_network(trained, recipe, tmp_path):
    again = state(train(recipe, tmp_path / "b", progress=False))
    other = state(train(recipe.override({"seed": 1}), tmp_path / "c", progress=False))
    first = state(trained)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_resumed_run_is_as_if_never_interrupted(trained, recipe, tmp_path):
    # `decay` keeps the schedule where the run is cut short; the last weights are compared, the best may be of any epoch.
    whole = recipe.override({"decay": 45})
    train(whole, tmp_path / "whole", progress=False)
    train(whole.override({"epochs": 1}), tmp_path / "cut", progress=False)
    train(whole, tmp_path / "cut", resume=True, progress=False)
    a, b = (state(load_run(tmp_path / name, "last")) for name in ("whole", "cut"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert [row["step"] for row in load_run(tmp_path / "cut").curves()] == [15, 30, 45]


@pytest.mark.parametrize("keys", [{"binary": False, "learning_rate": 1e-3}, {"precision": "bf16"}, {"values": "pm1"}])
def test_variants_train(recipe, tmp_path, keys):
    run = train(recipe.override({**keys, "epochs": 1}), tmp_path / "a", progress=False)
    assert run.result()["validation_loss"] < 1.1 * math.log(290)


def test_accumulated_batches_make_one_step(recipe, tmp_path):
    # Windows of one length: the mean over two batches of 4 is the mean over their 8 windows.
    keys = {"epochs": 1, "epoch_steps": 3, "clip": None}
    whole = train(recipe.override(keys), tmp_path / "a", progress=False)
    parts = train(recipe.override({**keys, "batch_size": 4, "accumulate": 2}), tmp_path / "b", progress=False)
    assert [run.curves()[-1]["step"] for run in (whole, parts)] == [3, 3]
    a, b = state(whole), state(parts)
    # Adam divides by the gradient's size: where that is tiny, rounding decides its direction.
    close = [torch.isclose(a[key], b[key], atol=1e-4).float().mean().item() for key in a if a[key].dim() == 2]
    assert min(close) > 0.95


def test_clipping_bounds_the_gradient(recipe, tmp_path, monkeypatch):
    seen = []
    clip = torch.nn.utils.clip_grad_norm_

    def record(parameters, largest):
        parameters = list(parameters)
        norm = clip(parameters, largest)
        seen.append(torch.stack([p.grad.norm() for p in parameters]).norm().item())
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", record)
    train(recipe.override({"epochs": 1, "epoch_steps": 3, "clip": 0.01}), tmp_path / "a", progress=False)
    assert len(seen) == 3
    assert max(seen) <= 0.0101


def test_sentences_hide_padding_from_loss_and_figures(recipe, tmp_path):
    run = train(recipe.override({"examples": "sentences", "context": 24, "epochs": 1}), tmp_path / "a", progress=False)
    result = run.result()
    assert result["validation_padded_perplexity_not_comparable"] > 0
    splits = load_text(run.recipe.data.source, 290, "line")
    tokenizer = Tokenizer(run.task)
    # The honest loss, computed with no padding at all: a sentence at a time.
    nats, count = 0.0, 0
    starts = np.flatnonzero(splits.validation.tokens == tokenizer.separator)
    with torch.inference_mode():
        for a, b in zip(starts[:-1], starts[1:], strict=True):
            tokens = torch.from_numpy(splits.validation.tokens[a : b + 1].astype(np.int64))[: 24 + 1]
            logits = run.model(tokens[None, :-1])[0]
            nats += F.cross_entropy(logits, tokens[1:], reduction="sum").item()
            count += len(tokens) - 1
    assert result["validation_tokens"] == count
    assert result["validation_loss"] == pytest.approx(nats / count, rel=1e-4)


def test_a_decoder_learns_from_a_teacher_in_two_stages_and_from_its_weights(recipe, trained, tmp_path):
    # Sentences, whose padding is not to be learned from the teacher either.
    keys = {"examples": "sentences", "context": 24, "epochs": 1}
    teacher = train(recipe.override(keys), tmp_path / "teacher", progress=False)
    keys |= {"epochs": 2, "teacher": str(teacher.path), "warm_start": str(teacher.path), "first_stage_epochs": 1}
    taught = train(recipe.override({**keys, "distill_features": ["blocks.0"]}), tmp_path / "a", progress=False)
    assert taught.result()["validation_loss"] < 0.4 * math.log(290)
    assert taught.epochs == 2
    with pytest.raises(OnebitError, match="has another task"):
        train(recipe.override({"vocabulary": 300, "teacher": str(trained.path)}), tmp_path / "b", progress=False)
    with pytest.raises(OnebitError, match="has another vocabulary"):
        train(recipe.override({"vocabulary": 300, "warm_start": str(trained.path)}), tmp_path / "b", progress=False)


def test_padding_is_trained_on_only_where_asked(recipe):
    splits = load_text(recipe.data.source, 290, "line")
    tokenizer = Tokenizer(splits.task)
    sentences = recipe.override({"examples": "sentences"})
    _, targets = next(iter(TextBatches(splits.train, splits.task, sentences, 40)))
    assert (targets == NOT_COUNTED).any() and not (targets == tokenizer.pad).any()
    _, targets = next(iter(TextBatches(splits.train, splits.task, sentences.override({"count_padding": True}), 40)))
    assert (targets == tokenizer.pad).any() and not (targets == NOT_COUNTED).any()


def test_a_pass_over_the_text_shows_each_window_once(recipe):
    splits = load_text(recipe.data.source, 290)
    batches = [TextBatches(splits.train, splits.task, recipe, 16, 5, epoch) for epoch in range(3)]
    seen = [tuple(row) for part in batches for inputs, _ in part for row in inputs.tolist()]
    assert len(seen) == 3 * 5 * 8
    again = [tuple(row) for inputs, _ in batches[1] for row in inputs.tolist()]
    assert again == seen[40:80]
    first, second = (
        [inputs for inputs, _ in TextBatches(splits.train, splits.task, recipe, 16, None, e)] for e in (0, 1)
    )
    assert not torch.equal(first[0], second[0])
    assert sum(len(part) for part in first) >= len(splits.train) // 16 - 1


def test_evaluation_counts_every_token(trained):
    splits = load_text(trained.recipe.data.source, 290)
    metrics = evaluate_text(trained.model, splits.validation, trained.task, 16)
    assert metrics.tokens == len(splits.validation) - 1


def test_shipped_recipes_of_text():
    for name in (
        "tiny",
        "mini",
        "paper-mini",
        "paper-wikitext103-small",
        "paper-wikitext103-large",
        "paper-wikitext103-twin",
    ):
        assert isinstance(load_recipe(name), TextRecipe)
    paper = load_recipe("paper-wikitext103-small")
    # Its options are the form's: none.
    assert paper.model.form == "paper"
    assert paper.model.given("residual_scale", "logit_scale", "embedding_widening", "pre_norm") == {}
    assert paper.scheme.latent_spread is None
    assert load_recipe("paper-wikitext103-twin") == paper.override({"binary": False})
    assert (paper.data.source, paper.data.examples) == ("wikitext-103", "sentences")
    assert (paper.optimizer.learning_rate, paper.schedule.epochs) == (1e-5, 100)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"vocabulary": 100}, "vocabulary=100: use 259 or more"),
        ({"validation_share": 0}, "validation_share=0.0"),
        ({"count_padding": True}, "count_padding=True: use examples=sentences"),
        ({"clip": 0}, "clip=0.0: use a number above 0"),
        ({"accumulate": 0}, "accumulate=0: use 1 or more"),
        ({"size": "huge"}, "size='huge'"),
        ({"widths": 3}, "unknown key 'widths'"),
        ({"head": "many"}, "head='many': needs"),
    ],
)
def test_wrong_keys_are_named(keys, message):
    with pytest.raises(RecipeError) as raised:
        TextRecipe().override(keys, "here")
    assert message in str(raised.value)


def test_wrong_sizes_and_texts_stop_before_anything_is_written(recipe, tmp_path):
    with pytest.raises(RecipeError, match="heads=3 does not divide features=32"):
        train(recipe.override({"heads": 3}), tmp_path / "a", progress=False)
    with pytest.raises(DataError, match="no such file or folder"):
        train(recipe.override({"data": str(tmp_path / "nothing")}), tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists()


def test_a_run_of_text_is_not_resumed_with_images(trained):
    with pytest.raises(OnebitError, match="was trained with another recipe"):
        train(load_recipe("digits"), trained.path, resume=True, progress=False)


def test_a_run_that_computes_activations_again_gives_the_same_network(trained, recipe, tmp_path):
    run = train(recipe.override({"checkpoint_activations": True}), tmp_path / "a", progress=False)
    first, again = state(trained), state(run)
    assert all(torch.equal(first[key], again[key]) for key in first)
    with pytest.raises(RecipeError, match="checkpoint_activations=True: use it with model=decoder"):
        recipe.override({"model": "lstm", "heads": None, "checkpoint_activations": True})
