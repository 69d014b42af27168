"""Loads and runs packed models, without PyTorch."""

from onebit.runtime.session import ImageSession, Session, load

__all__ = ["ImageSession", "Session", "load"]
