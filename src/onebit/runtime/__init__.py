"""Loads and runs packed models, without PyTorch."""

from onebit.runtime.session import Session, load

__all__ = ["Session", "load"]
