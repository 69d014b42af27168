"""Load and run packed models without PyTorch."""

from onebit.runtime.series import SeriesSession
from onebit.runtime.session import ArraySession, ImageSession, Session, load, load_image_session, load_text_session
from onebit.runtime.sound import SoundSession
from onebit.runtime.text_classes import TextClassSession
from onebit.runtime.threads import ThreadPool

__all__ = [
    "ArraySession",
    "ImageSession",
    "SeriesSession",
    "Session",
    "SoundSession",
    "TextClassSession",
    "ThreadPool",
    "load",
    "load_image_session",
    "load_text_session",
]
