"""Loads and runs packed models, without PyTorch."""

from onebit.runtime.session import ImageSession, Session, load, load_image_session, load_text_session

__all__ = ["ImageSession", "Session", "load", "load_image_session", "load_text_session"]
