"""PyTorch layers that use one bit of each parameter in the forward pass."""

from onebit.nn.activations import ReluSquared, RPReLU, RSign, nonlinearity_of, norm_of
from onebit.nn.attention import BinaryAttention, CausalAttention, KeyValueCache
from onebit.nn.binary import BinaryLayer, Bits
from onebit.nn.conv import BinaryConv1d, BinaryConv2d, BinaryConv3d, BinaryConvTranspose2d
from onebit.nn.embedding import BinaryEmbedding, TokenPositionEmbedding
from onebit.nn.exits import AfterExits, Exit, heads_of, set_calibration
from onebit.nn.linear import BinaryLinear, BinaryTransposedLinear
from onebit.nn.multihead import BinaryMultiheadAttention
from onebit.nn.normalize import Normalize
from onebit.nn.planes import PlaneNorms, most_planes, use_planes
from onebit.nn.recurrent import BinaryGRU, BinaryLSTM, BinaryRecurrence, ImageRows
from onebit.nn.rotary import RotaryPositions
from onebit.nn.separable import BinarySeparableConv2d
from onebit.nn.transformer import BinaryTransformerBlock, TransformerBlock

__all__ = [
    "AfterExits",
    "BinaryAttention",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryConv3d",
    "BinaryConvTranspose2d",
    "BinaryEmbedding",
    "BinaryGRU",
    "BinaryLSTM",
    "BinaryLayer",
    "BinaryLinear",
    "BinaryMultiheadAttention",
    "BinaryRecurrence",
    "BinarySeparableConv2d",
    "BinaryTransformerBlock",
    "BinaryTransposedLinear",
    "Bits",
    "CausalAttention",
    "Exit",
    "ImageRows",
    "KeyValueCache",
    "Normalize",
    "PlaneNorms",
    "RPReLU",
    "RSign",
    "ReluSquared",
    "RotaryPositions",
    "TokenPositionEmbedding",
    "TransformerBlock",
    "heads_of",
    "most_planes",
    "nonlinearity_of",
    "norm_of",
    "set_calibration",
    "use_planes",
]
