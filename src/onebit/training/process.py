"""One process that trains: the only one of a run, or one of those that share its batches."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

import onebit
from onebit.errors import OnebitError
from onebit.fileformat import write_atomically
from onebit.nn.synchronize import synchronize_statistics
from onebit.printable import one_line, printable
from onebit.processors import cores
from onebit.training import sources
from onebit.training.callbacks import Curves
from onebit.training.checkpoints import AtomicCheckpoints, Checkpoints, check_checkpoint
from onebit.training.jobs import Job, job_kind
from onebit.training.jobs.job import Note
from onebit.training.layout import Layout
from onebit.training.measures import Measures
from onebit.training.module import TrainingModule
from onebit.training.precision import use_bf16
from onebit.training.recipe import Recipe
from onebit.training.run import Run, load_run, with_temperature, write_json
from onebit.training.settings import process_settings
from onebit.training.warm_start import warm_start


def train_in_process(
    recipe: Recipe, out: Path, resume: bool, progress: bool, checkpoint_steps: int | None, layout: Layout
) -> Run:
    """Be the process that trains, or one of them; see `train`. The folder is held, and what it holds is the recipe's."""
    progress = progress and layout.rank == 0
    last = out / "checkpoints" / "last.ckpt"
    checkpoint = last if resume and last.exists() else None
    with process_settings(max(1, (recipe.run.threads or cores()) // layout.devices)):
        known = (
            sources.fingerprints(recipe) if layout.rank == 0 else {}
        )  # before the data are read, which takes its time
        note = _note if progress else _ignore
        job = job_kind(recipe)(recipe, note)
        module = _module(job, recipe, checkpoint, layout, note)
        if layout.rank == 0:
            _write_folder(out, recipe, job, known)
        trainer = _trainer(job, recipe, out, progress, checkpoint_steps, layout)
        start = time.monotonic()
        _fit(trainer, module, job, checkpoint)
        run = load_run(out)
        if layout.rank == 0:
            result = job.test(run.model.to(trainer.strategy.root_device))
            run.model.cpu()
            how = {"seconds": round(time.monotonic() - start, 1), "precision": str(trainer.precision)}
            write_json(out / "result.json", {**result, **_summary(run, job), **how, "seed": recipe.run.seed})
            run = replace(run, task=with_temperature(run.task, out))
    return run


def _module(job: Job, recipe: Recipe, checkpoint: Path | None, layout: Layout, note: Note) -> TrainingModule:
    """What Lightning trains; raises OnebitError where the teacher, the run to start from or the checkpoint does not fit."""
    if recipe.model.warm_start is not None and checkpoint is None:
        _start_from(job, recipe.model.warm_start, note)
    teacher = None if recipe.teacher.run is None else _teacher(job, recipe.teacher.run)
    if layout.world > 1:
        synchronize_statistics(job.model)
    batches = job.data.batches_per_epoch
    module = TrainingModule(job.model, recipe, batches, job.objective, teacher, note)
    if checkpoint is not None:
        check_checkpoint(checkpoint, job.model, batches, recipe.schedule.epochs)
    return module


def _trainer(
    job: Job, recipe: Recipe, out: Path, progress: bool, checkpoint_steps: int | None, layout: Layout
) -> lightning.Trainer:
    checkpoints = Checkpoints(
        out / "checkpoints", job.monitor, not (job.monitor or "").endswith("_loss"), checkpoint_steps
    )
    return lightning.Trainer(
        max_epochs=recipe.schedule.epochs,
        **layout.trainer_options(),
        precision="bf16-mixed" if use_bf16(recipe.run.precision) else "32-true",
        logger=TensorBoardLogger(str(out), name="", version="tensorboard"),
        callbacks=[Measures(out / "layers.csv"), Curves(out / "curves.csv", progress), checkpoints],
        plugins=[AtomicCheckpoints()],
        accumulate_grad_batches=recipe.optimizer.accumulate,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10**9,
    )


def _fit(trainer: lightning.Trainer, module: TrainingModule, job: Job, checkpoint: Path | None) -> None:
    try:
        trainer.fit(module, job.data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        raise KeyboardInterrupt from None  # Lightning leaves the process at Ctrl-C; the caller decides instead
    if trainer.interrupted:
        raise KeyboardInterrupt


def _write_folder(out: Path, recipe: Recipe, job: Job, known: dict[str, str | None]) -> None:
    write_atomically(out / "recipe.yaml", recipe.to_yaml().encode())
    write_json(out / sources.FILE, known)
    write_json(out / "task.json", job.task.to_json())
    write_json(out / "versions.json", _versions())


def _summary(run: Run, job: Job) -> dict[str, Any]:
    parameters = sum(p.numel() for p in job.model.parameters())
    return {"chosen_epoch": run.epochs, "epochs": run.recipe.schedule.epochs, "parameters": parameters}


def _start_from(job: Job, path: str, note: Note) -> None:
    source = load_run(path)
    job.check_start(source.task, path)
    missing = warm_start(job.model, source.model.state_dict(), f"warm_start {path}")
    count = len(job.model.state_dict())
    rest = f"; not there, or of another shape: {', '.join(missing)}" if missing else ""
    note(f"{count - len(missing)} of {count} tensors start from {printable(path)}{rest}")


def _teacher(job: Job, path: str) -> nn.Module:
    source = load_run(path)
    if source.task != job.task:
        raise OnebitError(
            f"[teacher] {path} has another task (labels, image size, channels or vocabulary): train it on the same data"
        )
    return source.model


def _note(line: str) -> None:
    print(f"note: {one_line(line)}", file=sys.stderr)


def _ignore(line: str) -> None:
    pass


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
