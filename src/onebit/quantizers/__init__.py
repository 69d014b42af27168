"""Quantise float tensors to codes of few bits. Each method is a plain function and a thin class, with its straight-through gradient.

A quantizer of weights returns `Codes`: small integers (bits with values {0,1} or {-1,+1}, or sums of them) and a scale. A layer multiplies by the
codes and scales the sum, exactly as the engine does. A quantizer of activations returns codes and a scale too.

To add a quantizer of weights, write a function and a class in weights.py, and add its name below. Training and packing read its properties.
"""

from onebit.quantizers.activations import AbsMax, ActivationQuantizer, KBitActivations, absmax, k_bit_activations
from onebit.quantizers.codes import (
    VALUES,
    Codes,
    Per,
    Values,
    binarize,
    sign,
    stochastic_sign,
    threshold_bits,
)
from onebit.quantizers.elastic import Elastic
from onebit.quantizers.estimators import (
    EDE,
    ESTIMATORS,
    BinaryRelax,
    Estimator,
    ReSTE,
    StochasticBits,
    distances,
)
from onebit.quantizers.gradients import (
    CLIPPED,
    IDENTITY,
    Clipped,
    Gradient,
    Identity,
    Polynomial,
    Power,
    Swish,
    Tanh,
    quantize_gradient,
    straight_through,
)
from onebit.quantizers.levels import ScaledLevels, scaled_levels
from onebit.quantizers.nested import NestedSigns, nested_signs
from onebit.quantizers.weights import (
    CenteredSign,
    KBitWeights,
    MeanThreshold,
    ScaledSign,
    Sign,
    StandardizedSign,
    Ternary,
    WeightQuantizer,
    centered_sign,
    k_bit_weights,
    scaled_sign,
    standardized_sign,
    ternary,
    weight_planes,
)

__all__ = [
    "CLIPPED",
    "EDE",
    "ESTIMATORS",
    "IDENTITY",
    "VALUES",
    "AbsMax",
    "ActivationQuantizer",
    "BinaryRelax",
    "CenteredSign",
    "Clipped",
    "Codes",
    "Elastic",
    "Estimator",
    "Gradient",
    "Identity",
    "KBitActivations",
    "KBitWeights",
    "MeanThreshold",
    "NestedSigns",
    "Per",
    "Polynomial",
    "Power",
    "ReSTE",
    "ScaledLevels",
    "ScaledSign",
    "Sign",
    "StandardizedSign",
    "StochasticBits",
    "Swish",
    "Tanh",
    "Ternary",
    "Values",
    "WeightQuantizer",
    "absmax",
    "binarize",
    "centered_sign",
    "distances",
    "k_bit_activations",
    "k_bit_weights",
    "nested_signs",
    "quantize_gradient",
    "scaled_levels",
    "scaled_sign",
    "sign",
    "standardized_sign",
    "stochastic_sign",
    "straight_through",
    "ternary",
    "threshold_bits",
    "weight_planes",
]
