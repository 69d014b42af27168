"""What `onebit.quantizers` was called in version 0.1.0; its names still import from here."""

from onebit.quantizers import *  # noqa: F403
