"""One training run, from a recipe to a run folder."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

import onebit
from onebit.data import ImageSet, load_images
from onebit.data.text import TextSplits, load_text
from onebit.errors import OnebitError, shown
from onebit.fileformat import write_atomically
from onebit.images import ImageTask
from onebit.metrics import AnswerMetrics
from onebit.models.decoder import LanguageDecoder
from onebit.nn.synchronize import synchronize_statistics
from onebit.paths import expand
from onebit.printable import one_line, printable
from onebit.processors import cores
from onebit.text import TextTask
from onebit.training import sources
from onebit.training.batches import EVALUATION_BATCH, Batches, ImageData, scale_pixels
from onebit.training.callbacks import Curves
from onebit.training.checkpoints import AtomicCheckpoints, Checkpoints, check_checkpoint
from onebit.training.launch import run_processes
from onebit.training.layout import Layout, StrategyName, check_count
from onebit.training.lock import hold, is_empty
from onebit.training.measures import Measures
from onebit.training.memory import keep_freed_memory
from onebit.training.module import Classifier
from onebit.training.openmp import use_threads
from onebit.training.recipe import ImageRecipe, Recipe, TextRecipe, load_recipe
from onebit.training.run import Run, build_model, decoder_sizes_of, load_run, write_json
from onebit.training.sources import check_out, check_same, fingerprints, locate
from onebit.training.warm_start import warm_start
from onebit.training.windows import TextData, evaluate_text


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
    if isinstance(recipe, (str, Path)):
        out = Path("runs") / Path(recipe).stem if out is None else out
        recipe = load_recipe(recipe)
    if not isinstance(recipe, Recipe):
        raise OnebitError(
            f"[train] recipe is of type {type(recipe).__name__}: give an ImageRecipe, a TextRecipe or what load_recipe returns"
        )
    if out is None:
        raise OnebitError("[train] out=None: give the run folder; only a recipe with a name has one of its own")
    # A path that is not a text is one of a key such as data or teacher.
    recipe = recipe.override({key: str(v) if isinstance(v, Path) else v for key, v in keys.items()}, "train")
    for name, flag in (("resume", resume), ("progress", progress)):
        if not isinstance(flag, bool):
            raise OnebitError(f"[train] {name}={shown(flag)}: use True or False")
    if checkpoint_steps is not None:
        check_count("checkpoint_steps", checkpoint_steps)
    layout = Layout(devices, nodes, strategy)
    _check_precision(recipe.precision)
    layout.check_recipe(recipe)
    recipe, out = locate(recipe), expand(out)
    if not resume:
        check_out(recipe, out)
    # One process for all, the first, holds the folder.
    with hold(out) if layout.rank == 0 else contextlib.nullcontext() as lock:
        if layout.rank == 0:
            _check_folder(recipe, out, resume)
        if not layout.starts_processes:
            return train_in_process(recipe, out, resume, progress, checkpoint_steps, layout)
        if isinstance(recipe, TextRecipe):
            _load_text(recipe)  # into the cache, once
        run_processes(recipe, out, resume, progress, checkpoint_steps, layout, lock)
        return load_run(out)


def train_in_process(
    recipe: Recipe, out: Path, resume: bool, progress: bool, checkpoint_steps: int | None, layout: Layout
) -> Run:
    """Be the process that trains, or one of them; see `train`. The folder is held, and what it holds is the recipe's."""
    devices = layout.devices
    if layout.world > 1:
        # Lightning chooses a number of threads where none is set.
        os.environ["OMP_NUM_THREADS"] = str(max(1, (recipe.threads or cores()) // devices))
    progress = progress and layout.rank == 0
    last = out / "checkpoints" / "last.ckpt"
    use_threads(max(1, (recipe.threads or cores()) // devices))
    keep_freed_memory()
    known = fingerprints(recipe) if layout.rank == 0 else {}  # before the data are read, which takes its time
    job = _text_job(recipe, progress) if isinstance(recipe, TextRecipe) else _image_job(recipe, progress)
    checkpoint = last if resume and last.exists() else None
    if recipe.warm_start is not None and checkpoint is None:
        _warm_start(job, recipe.warm_start, progress)
    teacher = None if recipe.teacher is None else _teacher(job, recipe.teacher)
    if layout.world > 1:
        synchronize_statistics(job.model)
    module = Classifier(
        job.model,
        recipe,
        job.batches_per_epoch,
        job.tokens_per_byte,
        teacher,
        _note if progress and layout.rank == 0 else _ignore,
    )
    if checkpoint is not None:
        check_checkpoint(checkpoint, job.model, job.batches_per_epoch, recipe.epochs)

    if layout.rank == 0:
        write_atomically(out / "recipe.yaml", recipe.to_yaml().encode())
        write_json(out / sources.FILE, known)
        write_json(out / "task.json", job.task.to_json())
        write_json(out / "versions.json", _versions())
    checkpoints = Checkpoints(last.parent, job.monitor, job.monitor == "val_accuracy", checkpoint_steps)
    _silence()
    trainer = lightning.Trainer(
        max_epochs=recipe.epochs,
        **layout.trainer_options(),
        precision="bf16-mixed" if _use_bf16(recipe.precision) else "32-true",
        logger=TensorBoardLogger(str(out), name="", version="tensorboard"),
        callbacks=[Measures(out / "layers.csv"), Curves(out / "curves.csv", progress), checkpoints],
        plugins=[AtomicCheckpoints()],
        accumulate_grad_batches=recipe.accumulate if isinstance(recipe, TextRecipe) else 1,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10**9,
    )
    start = time.monotonic()
    try:
        trainer.fit(module, job.data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        raise KeyboardInterrupt from None  # Lightning leaves the process at Ctrl-C; the caller decides instead
    if trainer.interrupted:
        raise KeyboardInterrupt
    run = load_run(out)
    if layout.rank > 0:
        return run
    result = job.test(run.model.to(trainer.strategy.root_device))
    run.model.cpu()
    write_json(
        out / "result.json",
        {
            **result,
            "chosen_epoch": run.epochs,
            "epochs": recipe.epochs,
            "parameters": sum(p.numel() for p in job.model.parameters()),
            "seconds": round(time.monotonic() - start, 1),
            "precision": str(trainer.precision),
            "seed": recipe.seed,
        },
    )
    return run


@dataclass(frozen=True)
class _Job:
    """What training one kind of recipe needs.

    Args:
        task: goes with the run and into the packed file.
        model: fresh.
        data: batches.
        batches_per_epoch: of them.
        test: the figures of the finished network, for result.json.
        monitor: the metric that chooses the best epoch; None: the last one counts.
        tokens_per_byte: of the validation text.
    """

    task: ImageTask | TextTask
    model: nn.Module
    data: lightning.LightningDataModule
    batches_per_epoch: int
    test: Callable[[nn.Module], dict[str, Any]]
    monitor: str | None
    tokens_per_byte: float | None = None


def _image_job(recipe: Recipe, progress: bool) -> _Job:
    assert isinstance(recipe, ImageRecipe)
    splits = load_images(
        recipe.data, recipe.image_size, recipe.channels, recipe.validation_share, recipe.train_limit, recipe.seed
    )
    if progress:
        for note in splits.notes:
            _note(note)
    height, width = splits.train.pixels.shape[1:3]
    task = ImageTask(splits.train.classes, (height, width), recipe.channels)
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, task)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    smallest = 2 ** (sum(isinstance(m, nn.MaxPool2d) for m in model.modules()))
    if min(height, width) < smallest:
        raise OnebitError(
            f"[train] images of {height}x{width} are too small for this network's pooling: use {smallest}x{smallest} or more"
        )

    def test(trained: nn.Module) -> dict[str, Any]:
        result = evaluate(trained, splits.test, task).figures()
        return {
            "test_accuracy": result["accuracy"],
            "test_loss": result["loss"],
            "test_images": len(splits.test),
            "train_images": len(splits.train),
        }

    count = len(Batches(splits.train, recipe.batch_size))
    monitor = "val_accuracy" if recipe.validation_share else None
    return _Job(task, model, ImageData(splits, task, recipe), count, test, monitor)


def _load_text(recipe: TextRecipe) -> TextSplits:
    return load_text(
        recipe.data,
        recipe.vocabulary,
        "line" if recipe.examples == "sentences" else "document",
        recipe.validation_data,
        recipe.validation_share,
        recipe.seed,
    )


def _text_job(recipe: TextRecipe, progress: bool) -> _Job:
    splits = _load_text(recipe)
    if progress:
        for note in splits.notes:
            print(f"note: {one_line(note)}", file=sys.stderr)
    task = splits.task
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, task)
    if isinstance(model, LanguageDecoder):
        model.checkpoint_activations = recipe.checkpoint_activations
    context = decoder_sizes_of(recipe)["context"]
    data = TextData(splits, recipe, context)

    def test(trained: nn.Module) -> dict[str, Any]:
        sentences = recipe.examples == "sentences"
        metrics = evaluate_text(trained, splits.validation, task, context, recipe.examples)
        figures = {f"validation_{key}": value for key, value in metrics.figures(padded=sentences).items()}
        seen = recipe.epochs * len(data.batches(0)) * recipe.batch_size * context
        return {**figures, "train_tokens": len(splits.train), "train_tokens_seen_at_most": seen}

    return _Job(task, model, data, len(data.batches(0)), test, "val_loss", splits.validation.tokens_per_byte)


def _warm_start(job: _Job, path: str, progress: bool) -> None:
    source = load_run(path)
    if isinstance(job.task, TextTask) and source.task != job.task:
        raise OnebitError(
            f"[warm_start] {path} has another vocabulary: train on its data, or give both the same vocab.txt"
        )
    missing = warm_start(job.model, source.model.state_dict(), f"warm_start {path}")
    if progress:
        count = len(job.model.state_dict())
        rest = f"; not there, or of another shape: {', '.join(missing)}" if missing else ""
        print(f"note: {count - len(missing)} of {count} tensors start from {printable(path)}{rest}", file=sys.stderr)


def _teacher(job: _Job, path: str) -> nn.Module:
    source = load_run(path)
    if source.task != job.task:
        raise OnebitError(
            f"[teacher] {path} has another task (labels, image size, channels or vocabulary): train it on the same data"
        )
    return source.model


def evaluate(model: nn.Module, images: ImageSet, task: ImageTask) -> AnswerMetrics:
    """What a PyTorch network answers to images, in float32 and evaluation mode."""
    metrics = AnswerMetrics()
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        for pixels, target in Batches(images, EVALUATION_BATCH):
            metrics.add(model(scale_pixels(pixels.to(device), task)).float().cpu().numpy(), target.numpy())
    return metrics


def _note(line: str) -> None:
    print(f"note: {one_line(line)}", file=sys.stderr)


def _ignore(line: str) -> None:
    pass


def _check_folder(recipe: Recipe, out: Path, resume: bool) -> None:
    """Refuse a folder that holds something else."""
    if resume:
        if not (out / "recipe.yaml").is_file():
            raise OnebitError(f"[train] {out} holds no run to resume: train without --resume first")
        # Its end and its threads may be moved.
        check_same(load_recipe(out / "recipe.yaml"), recipe, out, ("epochs", "threads"))
    elif not is_empty(out):
        raise OnebitError(f"[train] {out} is not empty: go on with --resume, or give another --out")


def _use_bf16(precision: str) -> bool:
    """Whether to compute in bfloat16: on request, or where the machine has instructions for it (elsewhere it is slower)."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    described = Path("/proc/cpuinfo")
    return described.exists() and _computes_in_bf16(described.read_text())


def _computes_in_bf16(cpu: str) -> bool:
    """Whether a processor, as Linux describes it, multiplies bfloat16 faster than float32: by AMX, or by AMD's AVX-512. Intel's AVX-512 has the
    instruction, but half as many a cycle as of float32: a training step takes 1.4 times as long with it."""
    return "amx_bf16" in cpu or ("avx512_bf16" in cpu and "AuthenticAMD" in cpu)


def _check_precision(precision: str) -> None:
    """Refuse bfloat16 on a GPU that has no such numbers; a processor has them in software."""
    if precision == "bf16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False):
        raise OnebitError(
            "[train] precision=bf16: this GPU does not compute in bfloat16: use precision=float32 or auto"
        )


def _versions() -> dict[str, str]:
    return {
        "onebit": onebit.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def _silence() -> None:
    """Keep Lightning's notes on devices, tips and data loaders from users who cannot act on them."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*lightning.*")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
