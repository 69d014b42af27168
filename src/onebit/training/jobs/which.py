"""Which job a recipe is for: the one place that lists the kinds."""

from __future__ import annotations

from torch import nn

from onebit.errors import OnebitError
from onebit.training.jobs.images import ImageJob
from onebit.training.jobs.job import AnyTask, Job
from onebit.training.jobs.pictures import DetectionJob, SegmentationJob
from onebit.training.jobs.series import SeriesJob
from onebit.training.jobs.sound import SoundJob
from onebit.training.jobs.text import TextJob
from onebit.training.jobs.text_classes import TextClassesJob
from onebit.training.recipe import Recipe

JOBS: tuple[type[Job], ...] = (ImageJob, TextJob, SoundJob, DetectionJob, SegmentationJob, SeriesJob, TextClassesJob)


def job_kind(recipe: Recipe) -> type[Job]:
    """The kind of job that trains by a recipe."""
    return next(job for job in JOBS if isinstance(recipe, job.recipe_kind))


def build_model(recipe: Recipe, task: AnyTask) -> nn.Module:
    """The network that a recipe describes, for the classes or the vocabulary of a task."""
    job = job_kind(recipe)
    if not isinstance(task, job.task_kind):
        raise OnebitError("[run] its recipe and its task are of different kinds: the folder is damaged")
    return job.build(recipe, task)
