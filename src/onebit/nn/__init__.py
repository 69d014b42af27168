"""PyTorch layers whose every parameter is one bit in use."""

from onebit.nn.bits import Bits
from onebit.nn.conv import BinaryConv2d
from onebit.nn.linear import BinaryLinear
from onebit.nn.normalize import Normalize

__all__ = ["BinaryConv2d", "BinaryLinear", "Bits", "Normalize"]
