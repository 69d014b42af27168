"""Pictures side by side in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

_COLUMNS = 4
# Of a picture in the figure, in inches.
_INCHES = 3.0


def picture_grid(pictures: Sequence[Image.Image]) -> Any:
    """A Matplotlib figure of pictures of one size, four in a row."""
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    across, down = pictures[0].size
    figure = Figure((columns * _INCHES, rows * _INCHES * down / across), layout="constrained", dpi=120)
    for place, axes in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
        axes.axis("off")
        if place < len(pictures):
            axes.imshow(np.asarray(pictures[place]), interpolation="nearest")
    return figure
