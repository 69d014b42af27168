"""Trains networks of bits and their float twins from recipes, into run folders that can be resumed."""

from onebit.training.recipe import Recipe, load_recipe, recipe_names
from onebit.training.run import Run, load_run
from onebit.training.train import evaluate, train

__all__ = ["Recipe", "Run", "evaluate", "load_recipe", "load_run", "recipe_names", "train"]
