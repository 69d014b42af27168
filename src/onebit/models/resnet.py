"""Residual networks: ResNet-18 and -34 for large and for small images, ResNet-20, -56 and -110 for CIFAR."""

from __future__ import annotations

from torch import Tensor, nn

from onebit.models.parts import Network, check, convolution, logits, stem, with_float_inputs
from onebit.nn import nonlinearity_of, norm_of
from onebit.schemes import Scheme

# The number of blocks in each stage.
LARGE_IMAGES: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class ResidualBlock(nn.Module):
    r"""Two 3x3 convolutions with a shortcut around both or around each, depending on the scheme.

    .. math:: y = f(N(W_2 f(N(W_1 x))) + s(x)), \qquad\text{or twice}\quad y = f(N(W x) + s(x))

    f and N are the nonlinearity and the normalisation that the scheme puts after a layer. A shortcut keeps its input float: it is the input itself,
    or, if the shape changes, its mean over 2x2 and a 1x1 convolution (in a float network a 1x1 convolution of stride 2).

    Args:
        inputs, outputs: channels.
        stride: the stride of the first convolution, 1 or 2.
        scheme: None gives the float twin.
        float_shortcut: the 1x1 convolution has float weights; False gives it those of the scheme.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, scheme: Scheme | None, float_shortcut: bool = True
    ) -> None:
        super().__init__()
        self.each = scheme is not None and scheme.shortcuts == 1
        self.branch_scale = 1.0 if scheme is None else scheme.branch_scale
        self.conv1 = convolution(scheme, inputs, outputs, 3, stride, 1)
        self.norm1 = norm_of(scheme, outputs)
        self.nonlinearity1 = nonlinearity_of(scheme, outputs)
        self.conv2 = convolution(scheme, outputs, outputs, 3, 1, 1)
        self.norm2 = norm_of(scheme, outputs)
        self.nonlinearity2 = nonlinearity_of(scheme, outputs)
        shortcut: list[nn.Module] = []
        if scheme is None and (stride != 1 or inputs != outputs):
            shortcut = [convolution(None, inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)]
        elif stride != 1 or inputs != outputs:
            pool = [nn.AvgPool2d(stride)] if stride != 1 else []
            kind = None if scheme is None or float_shortcut else with_float_inputs(scheme)
            shortcut = [*pool, convolution(kind, inputs, outputs, 1), norm_of(scheme, outputs)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = self._scaled(self.norm1(self.conv1(x)))
        if self.each:
            y = self.nonlinearity1(y + self.shortcut(x))
            x = y
        else:
            y = self.nonlinearity1(y)
            x = self.shortcut(x)
        result: Tensor = self.nonlinearity2(self._scaled(self.norm2(self.conv2(y))) + x)
        return result

    def _scaled(self, branch: Tensor) -> Tensor:
        return branch if self.branch_scale == 1 else branch * self.branch_scale


def resnet(
    depth: int = 18,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    scheme: Scheme | None = None,
    hybrid: bool = True,
    logit_scale: float | None = None,
    small_images: bool = False,
    float_shortcuts: bool = True,
) -> Network:
    """A residual network.

    Args:
        depth: 18 or 34, for large images (a 7x7 stem of stride 2 and a max-pool, widths 64 to 512), or 6n + 2 (8, 14, 20, 32, 44, 56, 110, ...) for
            32x32 (a 3x3 stem, widths 16, 32 and 64).
        num_classes: number of logits.
        in_channels: 3 for RGB, 1 for grey.
        width: multiplies all widths.
        scheme: a scheme of `onebit.schemes`; None gives the float twin.
        hybrid: the first and the last layer stay float. False makes them binary too; the first then takes 8-bit pixels if the scheme quantises
            inputs.
        logit_scale: a constant that multiplies the logits.
        small_images: 18 and 34 for images of about 32x32: a 3x3 stem of stride 1 and no max-pool.
        float_shortcuts: the 1x1 convolutions of shortcuts stay float. False gives them weights of the scheme, with float inputs: in ResNet-18 they
            are a third of a file of bits.

    Shape:
        (batch, in_channels, height, width), height and width divisible by 32 (18, 34), by 8 (the same for small images) or by 4, to
        (batch, num_classes).

    Raises:
        ValueError: the depth is none of these, or a size is not above 0.

    Example:
        >>> from onebit.schemes import BiRealNet
        >>> resnet(20, 10, scheme=BiRealNet())(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Source: He et al., arXiv 1512.03385, tables 1 and 6; the shortcuts of binary networks are Liu et al., Bi-Real Net, arXiv 1808.00278.
    """
    check("resnet", num_classes=num_classes, in_channels=in_channels, width=width)
    large = depth in LARGE_IMAGES
    if not large and (depth < 8 or (depth - 2) % 6):
        raise ValueError(
            f"[resnet] depth={depth}: use 18 or 34 for large images, 6n + 2 (8, 14, 20, 56, 110) for 32x32"
        )
    blocks = LARGE_IMAGES[depth] if large else ((depth - 2) // 6,) * 3
    channels = max(1, round((64 if large else 16) * width))
    shrinks = large and not small_images
    kernel, stride, padding = (7, 2, 3) if shrinks else (3, 1, 1)
    layers = stem(scheme, hybrid, in_channels, channels, kernel, stride, padding)
    if shrinks:
        layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = channels
    for stage, count in enumerate(blocks):
        outputs = channels << stage
        for index in range(count):
            layers.append(ResidualBlock(inputs, outputs, 2 if stage and not index else 1, scheme, float_shortcuts))
            inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *logits(scheme, hybrid, inputs, num_classes)]
    return Network(nn.Sequential(*layers), nn.Sequential(*head), logit_scale)
