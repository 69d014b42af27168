"""The name of `onebit.quantizers` in version 0.1.0. Its names can still be imported from here."""

from onebit.quantizers import *  # noqa: F403
