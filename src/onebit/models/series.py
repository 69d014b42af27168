"""A network of one-dimensional convolutions for windows of sensors' measurements, and its float twin."""

from __future__ import annotations

from torch import Tensor, nn

from onebit.models.parts import Network, behind, check, first, logits
from onebit.nn import BinaryConv1d
from onebit.schemes import Scheme


class SeriesNetwork(Network):
    """Convolutions over time, the mean over time, and a dense layer. `series_network` builds it."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x.transpose(1, 2))  # (batch, channels, time)
        outputs: Tensor = self.head(y.mean(2))  # (batch, outputs)
        return outputs if self.logit_scale is None else outputs * self.logit_scale


def series_network(
    columns: int,
    outputs: int,
    length: int,
    widths: tuple[int, ...] = (32, 64, 64),
    kernel_size: int = 5,
    scheme: Scheme | None = None,
    hybrid: bool = True,
    logit_scale: float | None = None,
) -> SeriesNetwork:
    """Convolutions over time, each followed by a normalisation, a nonlinearity and a pooling of two steps; then their mean over time.

    Args:
        columns: numbers of a step.
        outputs: classes, or 1 for a number.
        length: steps of a window, at least 2 ** len(widths).
        widths: channels of each convolution.
        kernel_size: steps that a convolution sees; odd.
        scheme: a scheme of `onebit.schemes`; None gives the float twin.
        hybrid: the first convolution and the last layer stay float.
        logit_scale: a constant that multiplies the outputs.

    Shape:
        (batch, length, columns) to (batch, outputs).

    Raises:
        ValueError: a size is not above 0, the kernel is even, or the window is too short for the poolings.

    Example:
        >>> series_network(3, 4, 128)(torch.zeros(2, 128, 3)).shape
        torch.Size([2, 4])
    """
    check("series_network", columns=columns, outputs=outputs, widths=widths, kernel_size=kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f"[series_network] kernel_size={kernel_size}: use an odd one")
    if length < 2 ** len(widths):
        raise ValueError(
            f"[series_network] a window of {length} rows is too short for {len(widths)} poolings: use --length {2 ** len(widths)} or more, "
            "or fewer widths"
        )
    layers: list[nn.Module] = []
    channels = columns
    for number, width in enumerate(widths):
        kind = scheme if number else first(scheme, hybrid)
        pool = nn.MaxPool1d(2)
        after = behind(scheme, width, image=False)
        # The pool comes before a sign: the maximum of signs would be +1 almost everywhere.
        signs = scheme is not None and scheme.activations is not None
        layers += [_convolution(kind, channels, width, kernel_size), *([pool, *after] if signs else [*after, pool])]
        channels = width
    return SeriesNetwork(nn.Sequential(*layers), nn.Sequential(*logits(scheme, hybrid, channels, outputs)), logit_scale)


def _convolution(scheme: Scheme | None, inputs: int, outputs: int, kernel: int) -> nn.Module:
    if scheme is None:
        return nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
    return BinaryConv1d(inputs, outputs, kernel, padding=kernel // 2, scheme=scheme)
