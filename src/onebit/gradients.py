"""What `onebit.quantizers.gradients` was called in version 0.1.0; its names still import from here."""

from onebit.quantizers.gradients import *  # noqa: F403
