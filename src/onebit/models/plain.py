"""Networks without shortcuts: BinaryNet's perceptron and VGG, XNOR-Net's AlexNet, and a mobile network of separable convolutions."""

from __future__ import annotations

from typing import Literal

from torch import nn

from onebit.models.parts import Network, behind, check, convolution, dense, first, logits, stem
from onebit.nn import BinarySeparableConv2d
from onebit.schemes import Scheme


def mlp(
    inputs: int,
    num_classes: int = 10,
    hidden: tuple[int, ...] = (4096, 4096, 4096),
    scheme: Scheme | None = None,
    hybrid: bool = True,
    logit_scale: float | None = None,
    pixels: Literal["levels", "signs"] = "levels",
) -> Network:
    """BinaryNet's perceptron.

    Args:
        inputs: the number of pixels of an image, times its channels.
        num_classes: number of logits.
        hidden: widths of the layers between.
        scheme: a scheme of `onebit.schemes`; None gives the float twin.
        hybrid: the first and the last layer stay float. False makes them binary too; the first then takes 8-bit pixels if the scheme quantises
            inputs.
        logit_scale: a constant that multiplies the logits.
        pixels: ``"signs"`` gives the first layer the scheme's own inputs, without hybrid: a pixel is then above its mean or not, as networks for
            FPGAs need it.

    Shape:
        (batch, channels, height, width) to (batch, num_classes).

    Raises:
        ValueError: a size is not above 0.

    Source: Courbariaux et al., arXiv 1602.02830, section 2.1.
    """
    check("mlp", inputs=inputs, num_classes=num_classes, hidden=hidden)
    layers: list[nn.Module] = []
    for index, width in enumerate(hidden):
        of_pixels = scheme if pixels == "signs" and not hybrid else first(scheme, hybrid)
        layers += [dense(scheme if index else of_pixels, inputs, width), *behind(scheme, width, image=False)]
        inputs = width
    return Network(
        nn.Sequential(nn.Flatten()),
        nn.Sequential(*layers, *logits(scheme, hybrid, inputs, num_classes)),
        logit_scale,
    )


def vgg(
    image_size: tuple[int, int] = (32, 32),
    num_classes: int = 10,
    in_channels: int = 3,
    widths: tuple[int, ...] = (128, 256, 512),
    hidden: tuple[int, ...] = (1024, 1024),
    scheme: Scheme | None = None,
    hybrid: bool = True,
    logit_scale: float | None = None,
) -> Network:
    """BinaryNet's VGG for CIFAR-10: blocks of two 3x3 convolutions and a max-pool, then dense layers.

    Args:
        image_size: height and width, multiples of 2 ** len(widths).
        num_classes, scheme, hybrid, logit_scale: see `mlp`.
        in_channels: 3 for RGB, 1 for grey.
        widths: channels of each block.
        hidden: widths of the dense layers before the last.

    Shape:
        (batch, in_channels, height, width) to (batch, num_classes).

    Raises:
        ValueError: a size is not above 0, or the image size is too small or not such a multiple.

    Source: Courbariaux et al., arXiv 1602.02830, section 2.3, after arXiv 1511.00363, section 3.3.
    """
    check("vgg", num_classes=num_classes, in_channels=in_channels, widths=widths, hidden=hidden)
    shrink = 2 ** len(widths)
    if any(side < shrink or side % shrink for side in image_size):
        raise ValueError(f"[vgg] image_size={image_size}: use multiples of {shrink}, or fewer widths")
    layers: list[nn.Module] = []
    channels = in_channels
    for index, width in enumerate(widths):
        if index:
            layers += [convolution(scheme, channels, width, 3, padding=1), *behind(scheme, width)]
        else:
            layers += stem(scheme, hybrid, channels, width, 3, padding=1)
        # The pool comes before the sign: the maximum of signs would be +1 almost everywhere.
        layers += [convolution(scheme, width, width, 3, padding=1), nn.MaxPool2d(2), *behind(scheme, width)]
        channels = width
    features = channels * (image_size[0] // shrink) * (image_size[1] // shrink)
    head: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        head += [dense(scheme, features, width), *behind(scheme, width, image=False)]
        features = width
    head += logits(scheme, hybrid, features, num_classes)
    return Network(nn.Sequential(*layers), nn.Sequential(*head), logit_scale)


def alexnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    scheme: Scheme | None = None,
    hybrid: bool = True,
    logit_scale: float | None = None,
) -> Network:
    """XNOR-Net's AlexNet, for images of 224x224 or near.

    Args:
        num_classes, scheme, hybrid, logit_scale: see `mlp`.
        in_channels: 3 for RGB, 1 for grey.
        width: multiplies all widths.

    Shape:
        (batch, in_channels, 224, 224) to (batch, num_classes).

    Source: Rastegari et al., arXiv 1603.05279, section 4.2: Krizhevsky's network with batch normalisation instead of response normalisation.
    """
    check("alexnet", num_classes=num_classes, in_channels=in_channels, width=width)
    a, b, c, d, wide = (max(1, round(n * width)) for n in (96, 256, 384, 256, 4096))
    layers = [
        *[*stem(scheme, hybrid, in_channels, a, 11, 4, 2), nn.MaxPool2d(3, 2)],
        *[convolution(scheme, a, b, 5, padding=2), nn.MaxPool2d(3, 2), *behind(scheme, b)],
        *[convolution(scheme, b, c, 3, padding=1), *behind(scheme, c)],
        *[convolution(scheme, c, c, 3, padding=1), *behind(scheme, c)],
        *[convolution(scheme, c, d, 3, padding=1), nn.MaxPool2d(3, 2), *behind(scheme, d)],
    ]
    head = [
        *[nn.Flatten(), dense(scheme, 36 * d, wide), *behind(scheme, wide, image=False)],
        *[dense(scheme, wide, wide), *behind(scheme, wide, image=False)],
        *logits(scheme, hybrid, wide, num_classes),
    ]
    return Network(nn.Sequential(*layers), nn.Sequential(*head), logit_scale)


# MobileNet's separable layers: channels at width 1, and stride.
_MOBILE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def mobile_net(
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    small_images: bool = False,
    scheme: Scheme | None = None,
    hybrid: bool = True,
    logit_scale: float | None = None,
) -> Network:
    """MobileNet: separable convolutions, each a depthwise and a pointwise one.

    Args:
        num_classes, scheme, hybrid, logit_scale: see `mlp`.
        in_channels: 3 for RGB, 1 for grey.
        width: multiplies all widths.
        small_images: for images of about 32x32: leave out three of the five halvings of the image.

    Shape:
        (batch, in_channels, height, width) to (batch, num_classes).

    Source: Howard et al., arXiv 1704.04861, table 1.
    """
    check("mobile_net", num_classes=num_classes, in_channels=in_channels, width=width)
    channels = max(1, round(32 * width))
    start = 1 if small_images else 2
    layers = stem(scheme, hybrid, in_channels, channels, 3, start, 1)
    for index, (wide, stride) in enumerate(_MOBILE):
        outputs, step = max(1, round(wide * width)), 1 if small_images and index < 4 else stride
        if scheme is None:
            layers += [convolution(None, channels, channels, 3, step, 1, groups=channels), *behind(None, channels)]
            layers += [convolution(None, channels, outputs, 1), *behind(None, outputs)]
        else:
            layers.append(BinarySeparableConv2d(channels, outputs, stride=step, scheme=scheme))
        channels = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *logits(scheme, hybrid, channels, num_classes)]
    return Network(nn.Sequential(*layers), nn.Sequential(*head), logit_scale)
