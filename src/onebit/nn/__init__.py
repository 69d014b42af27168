"""PyTorch layers whose every parameter is one bit in use."""

from onebit.nn.attention import BinaryAttention, CausalAttention, KeyValueCache
from onebit.nn.bits import Bits
from onebit.nn.conv import BinaryConv2d
from onebit.nn.embedding import BinaryEmbedding, TokenPositionEmbedding
from onebit.nn.linear import BinaryLinear
from onebit.nn.normalize import Normalize
from onebit.nn.transformer import BinaryTransformerBlock, TransformerBlock

__all__ = [
    "BinaryAttention",
    "BinaryConv2d",
    "BinaryEmbedding",
    "BinaryLinear",
    "BinaryTransformerBlock",
    "Bits",
    "CausalAttention",
    "KeyValueCache",
    "Normalize",
    "TokenPositionEmbedding",
    "TransformerBlock",
]
