"""Trains networks of bits and their float twins from recipes, into run folders that can be resumed."""

from onebit.training.figures import evaluate, evaluate_text
from onebit.training.recipe import ImageRecipe, Recipe, TextRecipe, load_recipe, recipe_names
from onebit.training.run import Run, load_run
from onebit.training.train import train

__all__ = [
    "ImageRecipe",
    "Recipe",
    "Run",
    "TextRecipe",
    "evaluate",
    "evaluate_text",
    "load_recipe",
    "load_run",
    "recipe_names",
    "train",
]
