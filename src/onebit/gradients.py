"""The name of `onebit.quantizers.gradients` in version 0.1.0. Its names can still be imported from here."""

from onebit.quantizers.gradients import *  # noqa: F403
