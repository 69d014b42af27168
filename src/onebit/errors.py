"""The errors that a user can meet: each says where, what was seen, what is allowed, and what to do."""

from __future__ import annotations


class OnebitError(ValueError):
    """Base of every error that the user's input, files or settings cause; the command line prints it as one line."""


class FormatError(OnebitError):
    """A `.onebit` file, or the program inside it, is damaged, foreign or of an unknown version."""


class DataError(OnebitError):
    """A data set or an image cannot be used as it is."""


class RecipeError(OnebitError):
    """A recipe or one of its keys is unknown, or has the wrong type or value."""


class PackError(OnebitError):
    """A PyTorch model holds something that a packed program cannot express."""
