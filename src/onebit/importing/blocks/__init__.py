"""The types of blocks in foreign files, by their numbers in GGUF. docs/importing.md lists where each comes from."""

from onebit.importing.blocks.base3 import PTQ1_0, TQ1_0
from onebit.importing.blocks.bits import Q1_0
from onebit.importing.blocks.coding import Coding as Coding
from onebit.importing.blocks.coding import Decoded as Decoded
from onebit.importing.blocks.coding import Levels as Levels
from onebit.importing.blocks.coding import Signs as Signs
from onebit.importing.blocks.super_blocks import Q4_K, Q5_K, Q6_K
from onebit.importing.blocks.two_bits import I2_S, PQ2_0, Q2_0, TQ2_0
from onebit.importing.blocks.two_bits import Q2_0_G128 as Q2_0_G128
from onebit.importing.blocks.wide import BF16, F16, F32, Q4_0, Q4_1, Q8_0

CODINGS: dict[int, Coding] = {
    0: F32,
    1: F16,
    2: Q4_0,
    3: Q4_1,
    8: Q8_0,
    12: Q4_K,
    13: Q5_K,
    14: Q6_K,
    30: BF16,
    34: TQ1_0,
    35: TQ2_0,
    36: I2_S,
    41: Q1_0,
    42: Q2_0,
    142: PQ2_0,
    143: PTQ1_0,
}

# Types that a file may well have, for the message that refuses them.
OTHER_TYPES: dict[int, str] = {
    6: "Q5_0",
    7: "Q5_1",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    38: "TL1",
    39: "MXFP4",
    40: "NVFP4",
    134: "IQ1_BN",
    135: "IQ2_BN",
    335: "IQ2_BN_R4",
}
