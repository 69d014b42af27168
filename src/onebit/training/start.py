"""Starting a training run: its arguments are checked, its folder is held, and one process or several train into it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from onebit.errors import OnebitError, shown
from onebit.paths import expand
from onebit.training.jobs import job_kind
from onebit.training.launch import run_processes
from onebit.training.layout import Layout, StrategyName, check_count
from onebit.training.lock import hold, is_empty
from onebit.training.precision import check_precision
from onebit.training.process import train_in_process
from onebit.training.recipe import Recipe, load_recipe
from onebit.training.run import Run, load_run
from onebit.training.sources import check_out, check_same, locate


def train(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    checkpoint_steps: int | None = None,
    devices: int = 1,
    nodes: int = 1,
    strategy: StrategyName = "auto",
    **keys: Any,
) -> Run:
    """Train a network into a run folder.

    Args:
        recipe: what, on what, and how: a recipe, the name of one that comes with the package, or a YAML file.
        out: the folder, by default runs/RECIPE where the recipe is a name or a file. It gets recipe.yaml (with whole
            paths), data.json, task.json, versions.json, curves.csv, layers.csv, tensorboard/, checkpoints/ and result.json.
        resume: go on after the last checkpoint that the folder holds; the result is that of a run that was never interrupted.
        progress: lines on standard error.
        checkpoint_steps: between two checkpoints within an epoch; None: there is one after each epoch only.
        devices, nodes, strategy: how many processes train, and how; see `Layout`. The network does not depend on it. They are started here, unless
            torchrun or SLURM has started them and this is one.
        keys: keys of the recipe that have other values than it says.

    Returns:
        The finished run with its best network (its last where the recipe sets no validation images aside).

    Raises:
        OnebitError: an argument is of another type, the folder holds another run or another process trains into it, there is nothing to resume or
            it does not fit, a checkpoint cannot be written, the loss or a latent became NaN or infinite, the teacher or the run to start from does
            not fit, there are no such devices, or a process died.
        DataError: the images or the text cannot be used.
        RecipeError: there is no such recipe, or a key or a value does not fit.
        KeyboardInterrupt: at Ctrl-C; the last checkpoint stands.

    Example:
        >>> run = onebit.train("digits", "runs/short", epochs=1, train_limit=100, progress=False)
        >>> run.result()["test_images"]
        359
    """
    recipe, out = _located(recipe, out, keys)
    for name, flag in (("resume", resume), ("progress", progress)):
        if not isinstance(flag, bool):
            raise OnebitError(f"[train] {name}={shown(flag)}: use True or False")
    if checkpoint_steps is not None:
        check_count("checkpoint_steps", checkpoint_steps)
    layout = Layout(devices, nodes, strategy)
    check_precision(recipe.run.precision)
    layout.check_recipe(recipe)
    if not resume:
        check_out(recipe, out)
    # One process for all, the first, holds the folder.
    with hold(out) if layout.rank == 0 else contextlib.nullcontext() as lock:
        if layout.rank == 0:
            _check_folder(recipe, out, resume)
        if not layout.starts_processes:
            return train_in_process(recipe, out, resume, progress, checkpoint_steps, layout)
        job_kind(recipe).prepare(recipe)
        run_processes(recipe, out, resume, progress, checkpoint_steps, layout, lock)
        return load_run(out)


def _located(recipe: Recipe | str | Path, out: str | Path | None, keys: dict[str, Any]) -> tuple[Recipe, Path]:
    """The recipe with its keys, and whole paths of what lies here; and the run folder."""
    if isinstance(recipe, (str, Path)):
        out = Path("runs") / Path(recipe).stem if out is None else out
        recipe = load_recipe(recipe)
    if not isinstance(recipe, Recipe):
        raise OnebitError(
            f"[train] recipe is of type {type(recipe).__name__}: give an ImageRecipe, another recipe or what load_recipe returns"
        )
    if out is None:
        raise OnebitError("[train] out=None: give the run folder; only a recipe with a name has one of its own")
    # A path that is not a text is one of a key such as data or teacher.
    recipe = recipe.override({key: str(v) if isinstance(v, Path) else v for key, v in keys.items()}, "train")
    return locate(recipe), expand(out)


def _check_folder(recipe: Recipe, out: Path, resume: bool) -> None:
    """Refuse a folder that holds something else."""
    if resume:
        if not (out / "recipe.yaml").is_file():
            raise OnebitError(f"[train] {out} holds no run to resume: train without --resume first")
        # Its end and its threads may be moved.
        check_same(load_recipe(out / "recipe.yaml"), recipe, out, ("epochs", "threads"))
    elif not is_empty(out):
        raise OnebitError(f"[train] {out} is not empty: go on with --resume, or give another --out")
