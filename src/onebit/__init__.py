"""1-bit neural networks: train them, pack them 32 times smaller, run them fast on a CPU without PyTorch."""

from __future__ import annotations

__version__ = "0.1.0"

# The same as typing.TYPE_CHECKING. Importing `typing` takes longer than everything else here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from onebit import conversion as conversion
    from onebit import data as data
    from onebit import models as models
    from onebit import nn as nn
    from onebit import optim as optim
    from onebit import packing as packing
    from onebit import pretrained as pretrained
    from onebit import quantizers as quantizers
    from onebit import reproduction as reproduction
    from onebit import runtime as runtime
    from onebit import schemes as schemes
    from onebit import scoring as scoring
    from onebit import training as training
    from onebit.conversion import convert as convert
    from onebit.conversion import to_float as to_float
    from onebit.errors import OnebitError as OnebitError
    from onebit.evaluation import evaluate as evaluate
    from onebit.exports import export as export
    from onebit.file_info import info as info
    from onebit.image_task import ImageTask as ImageTask
    from onebit.model_summary import summary as summary
    from onebit.packing.pack import pack as pack
    from onebit.runtime import ImageSession as ImageSession
    from onebit.runtime import Session as Session
    from onebit.runtime import ThreadPool as ThreadPool
    from onebit.runtime import load as load
    from onebit.runtime.pictures import DetectionSession as DetectionSession
    from onebit.runtime.pictures import SegmentationSession as SegmentationSession
    from onebit.runtime.tensors import TensorSession as TensorSession
    from onebit.runtime.text import TextSession as TextSession
    from onebit.sampling import Sampling as Sampling
    from onebit.scoring import score as score
    from onebit.speed import bench as bench
    from onebit.tasks.pictures import DetectionTask as DetectionTask
    from onebit.tasks.pictures import SegmentationTask as SegmentationTask
    from onebit.tasks.tensor_task import TensorInput as TensorInput
    from onebit.tasks.tensor_task import TensorTask as TensorTask
    from onebit.text import TextTask as TextTask
    from onebit.training.start import train as train
    from onebit.verification import verify as verify

# Loaded on first use, so that `import onebit` is quick and does not need PyTorch.
_WHERE = {
    "DetectionSession": "onebit.runtime.pictures",
    "DetectionTask": "onebit.tasks.pictures",
    "ImageSession": "onebit.runtime",
    "ImageTask": "onebit.image_task",
    "OnebitError": "onebit.errors",
    "Sampling": "onebit.sampling",
    "SegmentationSession": "onebit.runtime.pictures",
    "SegmentationTask": "onebit.tasks.pictures",
    "Session": "onebit.runtime",
    "TensorInput": "onebit.tasks.tensor_task",
    "TensorSession": "onebit.runtime.tensors",
    "TensorTask": "onebit.tasks.tensor_task",
    "TextSession": "onebit.runtime.text",
    "TextTask": "onebit.text",
    "ThreadPool": "onebit.runtime",
    "bench": "onebit.speed",
    "conversion": "",
    "convert": "onebit.conversion",
    "data": "",
    "evaluate": "onebit.evaluation",
    "export": "onebit.exports",
    "info": "onebit.file_info",
    "load": "onebit.runtime",
    "models": "",
    "nn": "",
    "optim": "",
    "pack": "onebit.packing",
    "packing": "",
    "pretrained": "",
    "quantizers": "",
    "reproduction": "",
    "runtime": "",
    "schemes": "",
    "score": "onebit.scoring",
    "scoring": "",
    "summary": "onebit.model_summary",
    "to_float": "onebit.conversion",
    "train": "onebit.training",
    "training": "",
    "verify": "onebit.verification",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'onebit' has no attribute {name!r}")
    import importlib

    value = (
        getattr(importlib.import_module(_WHERE[name]), name)
        if _WHERE[name]
        else importlib.import_module(f"onebit.{name}")
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
