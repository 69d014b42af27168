"""The paper's figures, what a scale makes of its networks, and that scale 1 is the paper to the last parameter."""

import pytest
import torch

from onebit.errors import OnebitError, RecipeError
from onebit.images import ImageTask
from onebit.reproduction import TABLES, Settings
from onebit.reproduction.scale import scale_recipe
from onebit.text import TextTask
from onebit.training import load_recipe
from onebit.training.jobs import build_model

FOOD = ImageTask(tuple(map(str, range(101))), (256, 256), 3)
BERT = TextTask(("[PAD]", "[UNK]", "[SEP]", *(f"t{i}" for i in range(30_522 - 3))), "words")


def row(table, name):
    return next(row for row in TABLES[table].rows + TABLES[table].best if row.name == name)


def parameters(table, name, scale=1.0, task=None):
    recipe = Settings(table, scale).recipe(row(table, name))
    with torch.device("meta"):
        model = build_model(recipe, task or (FOOD if table == "table2" else BERT))
    return sum(p.numel() for p in model.parameters())


def test_the_papers_figures():
    # Columns: train loss, val loss, train accuracy, val accuracy, and of text train and val perplexity.
    assert {row.name: tuple(row.paper.values()) for row in TABLES["table2"].rows} == {
        "standard-3x3": (0.0369, 1.37, 0.989, 0.703),
        "binary-3x3": (1.46, 1.55, 0.670, 0.637),
        "standard-5x5": (0.0495, 1.48, 0.986, 0.679),
        "binary-5x5": (0.836, 1.35, 0.834, 0.686),
    }
    assert {row.name: tuple(row.paper.values()) for row in TABLES["table5"].rows} == {
        "standard": (1.35, 1.94, 0.726, 0.664, 3.98, 7.47),
        "binary-small": (2.03, 1.99, 0.653, 0.659, 8.08, 7.92),
        "binary-large": (1.87, 1.91, 0.666, 0.666, 6.95, 7.47),
    }
    for table in TABLES.values():
        assert all(list(row.paper) == list(table.figures) for row in table.rows)
    assert list(TABLES["table5"].figures.values()) == [
        "train loss", "val loss", "train acc", "val acc", "train ppl", "val ppl"
    ]  # fmt: skip


def test_scale_one_has_the_papers_parameters():
    assert parameters("table2", "binary-3x3") == 5_132_165 == parameters("table2", "standard-3x3")
    assert parameters("table2", "binary-5x5") == 13_505_925 == parameters("table2", "standard-5x5")
    assert parameters("table5", "binary-small") == 154_406_714
    assert parameters("table5", "binary-large") == 332_855_098
    assert parameters("table2", "best-5x5") == 13_505_925


def test_scale_one_is_the_papers_recipe():
    for table in TABLES.values():
        for paper in table.rows + table.best:
            recipe = Settings(table.name).recipe(paper)
            changes = dict(paper.changes) | ({"count_padding": True} if table.name == "table5" else {})
            assert recipe == load_recipe(paper.recipe).override(changes)
    recipe = Settings("table2").recipe(row("table2", "binary-3x3"))
    schedule = recipe.schedule
    assert (
        recipe.data.image_size,
        recipe.optimizer.batch_size,
        recipe.optimizer.learning_rate,
        schedule.warmup,
        schedule.decay,
        schedule.epochs,
    ) == (
        (256, 256), 64, 1e-4, 20, 1100, 1000
    )  # fmt: skip
    recipe = Settings("table5").recipe(row("table5", "standard"))
    assert (recipe.optimizer.learning_rate, recipe.schedule.epochs, recipe.data.examples, recipe.model.binary) == (
        1e-5,
        100,
        "sentences",
        False,
    )


@pytest.mark.parametrize("scale", [0.001, 0.01, 0.05, 0.2, 0.37, 0.5, 0.9])
def test_every_scale_gives_networks_and_smaller_ones(scale):
    vocabulary = BERT.vocabulary[: max(512, round(scale * 30_522))]
    task = TextTask(vocabulary, "words")
    for table, paper in ((t, r) for t in TABLES.values() for r in t.rows + t.best):
        recipe = Settings(table.name, scale).recipe(paper)
        count = parameters(table.name, paper.name, scale, FOOD if table.name == "table2" else task)
        assert count < parameters(table.name, paper.name)
        assert 2 <= recipe.schedule.epochs <= load_recipe(paper.recipe).schedule.epochs
        if table.name == "table2":
            assert (
                recipe.data.image_size[0] % 32 == 0
                and recipe.data.image_size[0] >= 32
                and len(recipe.model.widths) >= 3
            )
        else:
            assert recipe.model.features % recipe.model.heads == 0
    # The larger one stays the larger one.
    assert parameters("table5", "binary-large", scale, task) > parameters("table5", "binary-small", scale, task)


def test_the_parameters_shrink_by_about_the_scale():
    assert parameters("table2", "binary-3x3", 0.25) == pytest.approx(0.25 * 5_132_165, rel=0.1)
    assert parameters("table2", "binary-5x5", 0.05) == pytest.approx(0.05 * 13_505_925, rel=0.1)


def test_the_rate_keeps_how_far_latents_go():
    food, text = load_recipe("paper-food101-3x3"), load_recipe("paper-wikitext103-small")
    assert scale_recipe(food, 0.5).optimizer.learning_rate == pytest.approx(4e-4)  # a quarter of the steps
    assert scale_recipe(text, 0.5).optimizer.learning_rate == pytest.approx(4e-5)
    assert scale_recipe(text, 0.01).optimizer.learning_rate == 1e-3
    assert scale_recipe(text, 0.01, paper_rate=True).optimizer.learning_rate == 1e-5
    assert (
        scale_recipe(text, 0.01).schedule.warmup == 100
        and scale_recipe(text, 0.01, paper_rate=True).schedule.warmup == 0
    )
    # What measured best is left as it is.
    assert Settings("table5", 0.01).recipe(row("table5", "best-small")).optimizer.learning_rate == 7e-4


def test_the_schedule_follows_epochs_set_by_hand():
    recipe = Settings("table2", 0.05, keys={"epochs": 10}).recipe(row("table2", "binary-3x3"))
    assert (recipe.schedule.epochs, recipe.schedule.decay, recipe.schedule.warmup) == (10, 11, 1)
    recipe = Settings("table2", 0.05, keys={"epochs": 10, "decay": 10}).recipe(row("table2", "binary-3x3"))
    assert recipe.schedule.decay == 10


@pytest.mark.parametrize("scale", [0, -1, 1.01, float("nan"), float("inf")])
def test_a_scale_is_above_zero_and_at_most_one(scale):
    with pytest.raises(OnebitError, match="use a number above 0, at most 1"):
        Settings("table2", scale)


def test_keys_by_hand_are_checked():
    with pytest.raises(OnebitError, match="the rows of table2 differ in binary"):
        Settings("table2", keys={"binary": False})
    with pytest.raises(RecipeError, match=r"\[reproduce\] unknown key 'epoch'; did you mean 'epochs'"):
        Settings("table2", keys={"epoch": 3}).recipe(row("table2", "binary-3x3"))
