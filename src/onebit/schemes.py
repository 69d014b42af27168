"""The published methods. Each is a plain dataclass that names its parts. A layer takes one as `scheme=`; docs/schemes.md compares them.

To add a method, write one dataclass here. If it binarises in a new way, add a function and a class to quantizers/weights.py.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from onebit.errors import shown
from onebit.normalize import OVERS, Over
from onebit.quantizers import (
    ESTIMATORS,
    AbsMax,
    ActivationQuantizer,
    CenteredSign,
    Estimator,
    KBitActivations,
    KBitWeights,
    MeanThreshold,
    NestedSigns,
    ScaledLevels,
    ScaledSign,
    Sign,
    StandardizedSign,
    Ternary,
    Values,
    WeightQuantizer,
)
from onebit.quantizers.gradients import CLIPPED, IDENTITY, Polynomial

POLYNOMIAL = Polynomial()
PLAIN = "straight-through"  # the name of training without an estimator


@dataclass(frozen=True, repr=False)
class Scheme:
    r"""How a method changes a layer: ``y = gain * scale * (codes of the weights) (codes of the inputs) + bias``, normalised or not.

    Args:
        weights: quantises the weights.
        activations: quantises the layer's inputs; None leaves them float.
        gradients: the number of bits of the gradient of the layer's output; None leaves it float.
        bias: ``"bits"`` binarises the bias by its mean, as in the paper; ``"float"`` keeps a float per output.
        normalize: the axes over which the layer's sums are normalised, without parameters: ``"channel"``, ``"example"``, ``"batch"``, or None
            for no normalisation.
        eps: the epsilon of that normalisation, and of the normalisation of inputs.
        latent_spread: the spread of the initial latent weights, as a multiple of Glorot's. It acts like a learning rate: a bit flips when its
            latent weight crosses the threshold.
        input_normalize: normalise the inputs over the channels before quantising them.
        input_shift: learn the threshold of the inputs' sign, a float per channel (RSign).
        input_scale: multiply each sum by the mean magnitude of its inputs (XNOR-Net's K).
        gain: multiply each output by a learned float.
        clip_latents: training keeps latent weights within plus and minus this; None lets them grow.
        norm: the normalisation that a network of this method has after a layer: ``"batch"``, ``"group"`` or None.
        nonlinearity: the function after that: ``"relu"``, ``"hardtanh"``, ``"rprelu"`` (learned shifts and slopes), or None if the next layer's
            quantizer is the only one.
        shortcuts: the number of layers that a residual network's shortcut skips.
        branch_scale: a residual network multiplies its branches by this before adding them. Below 1 it bounds a deep network without norms.
        gradient_clipping: training clips the gradient of each output's weights to this share of their norm (adaptive gradient clipping); None
            does not clip.
        estimator: how training takes the step from latent weights to bits, one of `onebit.quantizers.ESTIMATORS` or its name; None is
            straight-through. It fits weights of one bit only.

    Raises:
        ValueError: the parts do not fit together.
    """

    weights: WeightQuantizer = MeanThreshold()
    activations: ActivationQuantizer | None = None
    gradients: int | None = None
    bias: Literal["bits", "float"] = "float"
    normalize: Over | None = None
    eps: float = 1e-5
    latent_spread: float = 1.0
    input_normalize: bool = False
    input_shift: bool = False
    input_scale: bool = False
    gain: bool = False
    clip_latents: float | None = None
    norm: Literal["batch", "group"] | None = "batch"
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = "relu"
    shortcuts: int = 2
    branch_scale: float = 1.0
    gradient_clipping: float | None = None
    estimator: Estimator | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        if isinstance(self.estimator, str):
            object.__setattr__(self, "estimator", parse_estimator(self.estimator))
        if self.normalize is not None and self.normalize not in OVERS:
            raise ValueError(f"[{name}] normalize={shown(self.normalize)}: use 'channel', 'example', 'batch' or None")
        if self.bias not in ("bits", "float"):
            raise ValueError(f"[{name}] bias={shown(self.bias)}: use 'bits' or 'float'")
        if not isinstance(self.weights, WeightQuantizer):
            raise ValueError(
                f"[{name}] weights={shown(self.weights)}: use a quantizer of weights from onebit.quantizers, or a class derived from WeightQuantizer"
            )
        if self.activations is not None and not isinstance(self.activations, ActivationQuantizer):
            raise ValueError(
                f"[{name}] activations={shown(self.activations)}: use Sign, KBitActivations, AbsMax or None"
            )
        if (self.input_shift or self.input_scale) and not isinstance(self.activations, Sign):
            raise ValueError(f"[{name}] input_shift and input_scale belong to activations that are signs")
        if isinstance(self.activations, Sign) and self.activations.stochastic:
            raise ValueError(f"[{name}] stochastic signs are for weights: use activations=Sign()")
        if self.gradients is not None and (type(self.gradients) is not int or not 1 <= self.gradients <= 8):
            raise ValueError(f"[{name}] gradients={shown(self.gradients)}: use 1 to 8, or None")
        if self.norm not in (None, "batch", "group"):
            raise ValueError(f"[{name}] norm={shown(self.norm)}: use 'batch', 'group' or None")
        if self.nonlinearity not in (None, "relu", "hardtanh", "rprelu"):
            raise ValueError(
                f"[{name}] nonlinearity={shown(self.nonlinearity)}: use 'relu', 'hardtanh', 'rprelu' or None"
            )
        for option in ("eps", "latent_spread", "branch_scale", "clip_latents", "gradient_clipping"):
            value = getattr(self, option)
            if value is None and option in ("clip_latents", "gradient_clipping"):
                continue
            if type(value) not in (int, float) or not 0 < value < math.inf:
                raise ValueError(f"[{name}] {option}={shown(value)}: use a number above 0")
        for option in ("input_normalize", "input_shift", "input_scale", "gain"):
            if type(getattr(self, option)) is not bool:
                raise ValueError(f"[{name}] {option}={shown(getattr(self, option))}: use True or False")
        if type(self.shortcuts) is not int or self.shortcuts < 1:
            raise ValueError(f"[{name}] shortcuts={shown(self.shortcuts)}: use 1, 2, ...")
        if not isinstance(self.estimator, Estimator | None):
            raise ValueError(f"[{name}] estimator={shown(self.estimator)}: use {', '.join(ESTIMATORS)} or None")
        if self.estimator is not None and self.weights.bits > 1:
            raise ValueError(
                f"[{name}] estimator={self.estimator}: it fits weights of one bit, these have {self.weights.bits}"
            )
        if self.weights.learned_scale and not self.gain:
            raise ValueError(f"[{name}] weights={self.weights}: its scale is the layer's gain: use gain=True with it")

    def __repr__(self) -> str:
        """The name of the method, and the parts that differ from its defaults."""
        usual = type(self)()
        parts = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(usual, f.name)]
        return f"{type(self).__name__}({', '.join(f'{name}={self._shown(getattr(self, name))}' for name in parts)})"

    @staticmethod
    def _shown(part: Any) -> str:
        return repr(part)

    @property
    def of_sequences(self) -> Scheme:
        """The scheme for layers of sequences. Batch statistics would let a position see later ones, so "batch" becomes "channel"."""
        return replace(self, normalize="channel") if self.normalize == "batch" else self

    @property
    def binary_activations(self) -> bool:
        """Whether the inputs of a layer are one bit each."""
        return isinstance(self.activations, Sign)


@dataclass(frozen=True, repr=False)
class BinaryNormalized(Scheme):
    """The paper's method: each bit tells whether a parameter is above the mean, and outputs are normalised without parameters. Every
    parameter is one bit, also biases.

    Args:
        weights: a quantizer, or ``"unipolar"`` (bits are 0 and 1) or ``"bipolar"`` (-1 and +1) for `MeanThreshold` with these values.

    Source: "1 bit is all we need: binary normalized neural networks", arXiv 2509.07025.
    """

    weights: WeightQuantizer | Values = MeanThreshold()  # type: ignore[assignment]
    bias: Literal["bits", "float"] = "bits"
    normalize: Over | None = "channel"
    norm: Literal["batch", "group"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.weights, str):
            usual = cast(MeanThreshold, type(self).weights)
            object.__setattr__(self, "weights", replace(usual, values=self.weights))
        super().__post_init__()


@dataclass(frozen=True, repr=False)
class Bipolar(BinaryNormalized):
    """The paper's method with the settings that measured best here on images: bits of -1 and +1, a threshold per output, batch statistics,
    and latent weights that start near their thresholds.

    It is the default of `onebit.convert` and of recipes for images. Its statistics are over the batch and all positions. Sequences that must
    not look ahead take ``Bipolar(normalize="channel")``, which `of_sequences` returns.

    Source: docs/accuracy.md compares it with the paper's `BinaryNormalized` and with float networks.
    """

    weights: WeightQuantizer | Values = MeanThreshold("bipolar", per="output")  # type: ignore[assignment]
    normalize: Over | None = "batch"
    latent_spread: float = 0.25


@dataclass(frozen=True, repr=False)
class Nested(Bipolar):
    """`Bipolar` with several bits for each weight, of which the first alone are a network too. Training is for each number of them in turn.

    Args:
        weights: the number of bits (planes) of a weight, 1 to 8, or a quantizer.

    Source: `onebit.quantizers.nested_signs`; statistics for each number of planes as in Yu et al., Slimmable neural networks, arXiv 1812.08928.
    """

    weights: WeightQuantizer | Values | int = 2  # type: ignore[assignment]
    bias: Literal["bits", "float"] = "float"

    def __post_init__(self) -> None:
        if isinstance(self.weights, int):
            object.__setattr__(self, "weights", NestedSigns(self.weights))
        super().__post_init__()

    @staticmethod
    def _shown(part: Any) -> str:
        """The number of bits, as `parse_scheme` reads it."""
        return str(part.most) if isinstance(part, NestedSigns) and part.used is None else repr(part)


@dataclass(frozen=True, repr=False)
class PureBits(Scheme):
    """Every parameter is one bit, and layers do not normalise: signs relative to each output's mean, times a constant.

    The constant follows from the layer's size: inputs of unit deviation give outputs of unit deviation. It is for networks that normalise before
    their branches, such as ``language_decoder(form="all-bits")``.

    Source: docs/accuracy.md compares it with the paper's `BinaryNormalized`.
    """

    weights: WeightQuantizer = MeanThreshold("bipolar", per="output", scale="inputs")
    bias: Literal["bits", "float"] = "bits"
    norm: Literal["batch", "group"] | None = None


@dataclass(frozen=True, repr=False)
class BinaryConnect(Scheme):
    """BinaryConnect: weights are their sign, or random signs (``weights=Sign(IDENTITY, stochastic=True)``). Activations are float, and latent
    weights are clipped to -1..1.

    Source: Courbariaux et al., arXiv 1511.00363, algorithm 1.
    """

    weights: WeightQuantizer = Sign(IDENTITY)
    clip_latents: float | None = 1.0


@dataclass(frozen=True, repr=False)
class BinaryWeightNetwork(Scheme):
    """Binary-Weight-Network: weights are their sign, scaled by their mean magnitude per output. Activations are float.

    Source: Rastegari et al., arXiv 1603.05279, section 3.1. `scaled_sign` says what its authors' code does in addition.
    """

    weights: WeightQuantizer = ScaledSign("output", CLIPPED, share=True)


@dataclass(frozen=True, repr=False)
class KBitWeightNetwork(Scheme):
    """Weights of chosen numbers of bits, evenly spaced levels with a scale for each output. Activations are float.

    It is Binary-Weight-Network at one bit, but for the gradient. It is what bits are compared with in docs/accuracy.md.

    Args:
        weights: a number of bits, 1 to 8, or a quantizer.

    Source: Liu et al., ParetoQ, arXiv 2502.02631, for the levels at two bits. `scaled_levels` says what differs.
    """

    weights: WeightQuantizer | int = 2  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if isinstance(self.weights, int):
            object.__setattr__(self, "weights", ScaledLevels(self.weights))
        super().__post_init__()

    @staticmethod
    def _shown(part: Any) -> str:
        """The number of bits, as `parse_scheme` reads it."""
        return str(part.bits) if isinstance(part, ScaledLevels) else repr(part)


@dataclass(frozen=True, repr=False)
class BinaryNet(Scheme):
    """BinaryNet: weights and activations are their sign, and the activations' gradient is clipped. Batch normalisation and a hard tanh lie
    between layers.

    Source: Courbariaux et al., arXiv 1602.02830, algorithm 1. The weights' gradient is the identity, and latent weights are clipped instead.
    """

    weights: WeightQuantizer = Sign(IDENTITY)
    activations: ActivationQuantizer | None = Sign()
    clip_latents: float | None = 1.0
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = "hardtanh"


@dataclass(frozen=True, repr=False)
class XnorNet(Scheme):
    """XNOR-Net: weights and activations are their sign, with a scale per output and, from the inputs' magnitudes, per position.

    Source: Rastegari et al., arXiv 1603.05279, section 3.2. The gradient also goes through the inputs' magnitudes. The paper's blocks begin with
    batch normalisation; here it follows the layer before, which is the same place. Its authors' code leaves the inputs' magnitudes out:
    ``input_scale=False``.
    """

    weights: WeightQuantizer = ScaledSign("output", CLIPPED, share=True)
    activations: ActivationQuantizer | None = Sign()
    input_scale: bool = True
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = None


@dataclass(frozen=True, repr=False)
class DoReFa(Scheme):
    """DoReFa-Net: weights, activations and gradients with chosen numbers of bits.

    Args:
        weights, activations, gradients: numbers of bits, 1 to 8 (W, A and G in the paper). 32 leaves activations or gradients float.

    Source: Zhou et al., arXiv 1606.06160.
    """

    weights: WeightQuantizer | int = 1  # type: ignore[assignment]
    activations: ActivationQuantizer | int | None = 2  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if isinstance(self.weights, int):
            object.__setattr__(self, "weights", KBitWeights(self.weights))
        if isinstance(self.activations, int):
            object.__setattr__(
                self, "activations", None if self.activations == 32 else KBitActivations(self.activations)
            )
        if self.gradients == 32:
            object.__setattr__(self, "gradients", None)
        super().__post_init__()

    @staticmethod
    def _shown(part: Any) -> str:
        """Numbers of bits, as `parse_scheme` reads them."""
        return str(part.bits) if isinstance(part, KBitWeights | KBitActivations) else repr(part)


@dataclass(frozen=True, repr=False)
class BiRealNet(Scheme):
    """Bi-Real Net: weights and activations are their sign, with a float shortcut around each layer and a smoother gradient.

    Source: Liu et al., arXiv 1808.00278, and its authors' PyTorch code, which clips the weights' gradient. The paper also multiplies that
    gradient by the weights' mean magnitude.
    """

    weights: WeightQuantizer = ScaledSign("output", CLIPPED)
    activations: ActivationQuantizer | None = Sign(POLYNOMIAL)
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = None
    shortcuts: int = 1


@dataclass(frozen=True, repr=False)
class ReActNet(Scheme):
    """ReActNet: Bi-Real Net with learned thresholds before the signs (RSign) and learned shifts and slopes after the layers (RPReLU).

    Source: Liu et al., arXiv 2003.03488, and its authors' code. Thresholds are subtracted here; the authors' code adds their negatives.
    """

    weights: WeightQuantizer = ScaledSign("output", CLIPPED)
    activations: ActivationQuantizer | None = Sign(POLYNOMIAL)
    input_shift: bool = True
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = "rprelu"
    shortcuts: int = 1


@dataclass(frozen=True, repr=False)
class NormFree(Scheme):
    """ReActNet without batch normalisation: weights are standardised before their sign, outputs have a learned gain, and gradients are clipped
    adaptively.

    ``NormFree(norm="group")`` adds a group normalisation, which is not in the paper.

    Source: Chen et al., BNN - BN = ?, arXiv 2104.08215, and its authors' code, with the clipping of its ImageNet script. That code also scales
    whole blocks (alpha, beta), which is left to the network.
    """

    weights: WeightQuantizer = StandardizedSign()
    activations: ActivationQuantizer | None = Sign(POLYNOMIAL)
    input_shift: bool = True
    gain: bool = True
    norm: Literal["batch", "group"] | None = None
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = "rprelu"
    shortcuts: int = 1
    branch_scale: float = 0.2
    gradient_clipping: float | None = 0.02


@dataclass(frozen=True, repr=False)
class BitNet(Scheme):
    """BitNet: weights are their sign relative to the mean, with one scale per layer. Inputs are normalised, then quantised to 8 bits.

    Source: Wang et al., arXiv 2310.11453.
    """

    weights: WeightQuantizer = CenteredSign()
    activations: ActivationQuantizer | None = AbsMax(8)
    input_normalize: bool = True
    norm: Literal["batch", "group"] | None = None


@dataclass(frozen=True, repr=False)
class BitNet158(BitNet):
    """BitNet with weights of -1, 0 and +1.

    Source: Ma et al., arXiv 2402.17764. Its authors normalise the inputs by their root mean square. Here, as in BitNet, their mean is also
    subtracted.
    """

    weights: WeightQuantizer = Ternary()


SCHEMES: dict[str, type[Scheme]] = {
    scheme.__name__: scheme
    for scheme in (
        BinaryNormalized,
        Bipolar,
        Nested,
        PureBits,
        BinaryConnect,
        BinaryWeightNetwork,
        KBitWeightNetwork,
        BinaryNet,
        XnorNet,
        DoReFa,
        BiRealNet,
        ReActNet,
        NormFree,
        BitNet,
        BitNet158,
    )
}


_TEXT = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_WORDS = {"None": None, "True": True, "False": False}


def parse_scheme(scheme: str | Mapping[str, Any]) -> Scheme:
    """A scheme from its name and plain options, as recipes and the command write it.

    Args:
        scheme: a name of `SCHEMES`; a text may have options in brackets after it. Or a mapping with the name as `name`, and the options. Options are
            numbers, strings, True, False or None.

    Raises:
        ValueError: it is not a scheme; the message says what is allowed.

    Example:
        >>> parse_scheme({"name": "DoReFa", "weights": 1, "activations": 4}).activations
        KBitActivations(bits=4)
        >>> parse_scheme("DoReFa(weights=1, activations=4)").activations
        KBitActivations(bits=4)
    """
    name, options = split_scheme(scheme) if isinstance(scheme, str) else (scheme.get("name"), dict(scheme))
    options.pop("name", None)
    if not isinstance(name, str) or name not in SCHEMES:
        raise ValueError(f"scheme={shown(name)}: use {', '.join(SCHEMES)}")
    known = [f.name for f in dataclasses.fields(SCHEMES[name])]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"scheme={shown(name)}: {name} has no option {shown(unknown[0])}: use {', '.join(known)}")
    return SCHEMES[name](**options)


def parse_estimator(text: str) -> Estimator | None:
    """An estimator from its name, with options in brackets after it or without, as recipes and the command write it.

    Args:
        text: a name of `onebit.quantizers.ESTIMATORS`, or ``straight-through`` for None.

    Raises:
        ValueError: it is not an estimator; the message says what is allowed.

    Example:
        >>> parse_estimator("ReSTE(last=2)")
        ReSTE(last=2, limit=1.5)
    """
    if text == PLAIN:
        return None
    name, options = split_scheme(text, "estimator")
    if name not in ESTIMATORS:
        raise ValueError(f"estimator={shown(name)}: use {PLAIN}, {', '.join(ESTIMATORS)}")
    known = [f.name for f in dataclasses.fields(ESTIMATORS[name])]  # type: ignore[arg-type]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"estimator={shown(name)}: {name} has no option {shown(unknown[0])}: use {', '.join(known)}")
    return ESTIMATORS[name](**options)


def split_scheme(text: str, what: str = "scheme") -> tuple[str, dict[str, Any]]:
    """The name and the options of a scheme or an estimator in a text, `Name` or `Name(option=value, ...)`.

    Raises ValueError as `parse_scheme` and `parse_estimator` do.
    """
    found = _TEXT.fullmatch(text)
    options: dict[str, Any] = {}
    try:
        if found is None:
            raise ValueError("not a name")
        for part in (found[2] or "").split(",") if (found[2] or "").strip() else ():
            option, equals, value = (word.strip() for word in part.partition("="))
            if not equals or not option.isidentifier() or option in options:
                raise ValueError("not an option, or twice")
            options[option] = _plain_value(value)
    except ValueError:
        raise ValueError(f"{what}={shown(text)}: write a name, or Name(option=value, ...)") from None
    return found[1], options


def _plain_value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
