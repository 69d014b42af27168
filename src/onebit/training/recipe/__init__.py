"""Recipes: what to train, on what, and how; keys in sections, in YAML, each of which a flag overrides."""

from onebit.training.recipe.files import load_recipe, parse_text, recipe_names
from onebit.training.recipe.images import CELLS, ImageRecipe
from onebit.training.recipe.kinds import KINDS
from onebit.training.recipe.recipe import Recipe, short_names
from onebit.training.recipe.series import SeriesRecipe
from onebit.training.recipe.text import TextRecipe
from onebit.training.recipe.text_classes import TextClassesRecipe

__all__ = [
    "CELLS",
    "KINDS",
    "ImageRecipe",
    "Recipe",
    "SeriesRecipe",
    "TextClassesRecipe",
    "TextRecipe",
    "load_recipe",
    "parse_text",
    "recipe_names",
    "short_names",
]
