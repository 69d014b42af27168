"""The kinds of training: what each needs, and which one a recipe is of."""

from onebit.training.jobs.arrays import ArrayJob
from onebit.training.jobs.images import ImageJob
from onebit.training.jobs.job import AnyTask, Job
from onebit.training.jobs.text import TextJob, decoder_sizes_of
from onebit.training.jobs.which import build_model, job_kind

__all__ = ["AnyTask", "ArrayJob", "ImageJob", "Job", "TextJob", "build_model", "decoder_sizes_of", "job_kind"]
