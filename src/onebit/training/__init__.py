"""Trains networks of bits and their float twins from recipes, into run folders that can be resumed."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebit.training.figures import evaluate as evaluate
    from onebit.training.figures import evaluate_text as evaluate_text
    from onebit.training.recipe import ImageRecipe as ImageRecipe
    from onebit.training.recipe import Recipe as Recipe
    from onebit.training.recipe import SeriesRecipe as SeriesRecipe
    from onebit.training.recipe import TextClassesRecipe as TextClassesRecipe
    from onebit.training.recipe import TextRecipe as TextRecipe
    from onebit.training.recipe import load_recipe as load_recipe
    from onebit.training.recipe import recipe_names as recipe_names
    from onebit.training.run import Run as Run
    from onebit.training.run import load_run as load_run
    from onebit.training.start import train as train

# Loaded when first asked for: the keys of recipes are read without PyTorch, by the command's help.
_WHERE = {
    "ImageRecipe": "recipe",
    "Recipe": "recipe",
    "Run": "run",
    "SeriesRecipe": "recipe",
    "TextClassesRecipe": "recipe",
    "TextRecipe": "recipe",
    "evaluate": "figures",
    "evaluate_text": "figures",
    "load_recipe": "recipe",
    "load_run": "run",
    "recipe_names": "recipe",
    "train": "start",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'onebit.training' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"onebit.training.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
