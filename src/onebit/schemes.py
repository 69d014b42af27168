"""The published methods, each a plain dataclass that names its parts. A layer takes one as `scheme=`; docs/schemes.md compares them.

To add a method: one dataclass here and, where it binarises in a new way, a function and a class in quantizers/weights.py.
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
    AbsMax,
    ActivationQuantizer,
    CenteredSign,
    KBitActivations,
    KBitWeights,
    MeanThreshold,
    ScaledSign,
    Sign,
    StandardizedSign,
    Ternary,
    Values,
    WeightQuantizer,
)
from onebit.quantizers.gradients import CLIPPED, IDENTITY, Polynomial

POLYNOMIAL = Polynomial()


@dataclass(frozen=True, repr=False)
class Scheme:
    r"""How a method computes a layer: ``y = gain * scale * (codes of the weights) (codes of the inputs) + bias``, normalised or not.

    Args:
        weights: quantises the weights.
        activations: quantises the layer's inputs; None leaves them float.
        gradients: bits that the gradient of the layer's output is quantised to; None leaves it float.
        bias: ``"bits"``: binarised by its mean, as the paper's; ``"float"``: a float for each output.
        normalize: what the layer's sums are normalised over, without parameters; None: not at all.
        eps: of that normalisation, and of the inputs'.
        latent_spread: spread of the initial weight latents, as a multiple of Glorot's. It acts as a learning rate: a bit flips when its latent
            crosses the threshold.
        input_normalize: the inputs are normalised over the channels before they are quantised.
        input_shift: the threshold of the inputs' sign is learned, a float for each channel (RSign).
        input_scale: the sums are multiplied by the mean magnitude of the inputs that they are of (XNOR-Net's K).
        gain: each output is multiplied by a learned float.
        clip_latents: training keeps the latents within plus and minus this; None lets them grow.
        norm: the normalisation after a layer in a network of this method: ``"batch"``, ``"group"`` or None.
        nonlinearity: after that: ``"relu"``, ``"hardtanh"``, ``"rprelu"`` (learned shifts and slopes), or None where the next layer's quantizer
            is enough.
        shortcuts: layers that a residual network's shortcut goes around.
        branch_scale: a residual network multiplies its branches by this before they are added; below 1 bounds a deep network without norms.
        gradient_clipping: training clips the gradient of each output's weights to this share of their norm (adaptive gradient clipping); None: not.

    Raises:
        ValueError: a part is not allowed, or parts do not go together.
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

    def __post_init__(self) -> None:
        name = type(self).__name__
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

    def __repr__(self) -> str:
        """The name, and the parts that differ from the method's defaults."""
        usual = type(self)()
        parts = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(usual, f.name)]
        return f"{type(self).__name__}({', '.join(f'{name}={self._shown(getattr(self, name))}' for name in parts)})"

    @staticmethod
    def _shown(part: Any) -> str:
        return repr(part)

    @property
    def of_sequences(self) -> Scheme:
        """The scheme for layers of sequences: a normalisation over the batch, which would show a step later ones, becomes one over the channels."""
        return replace(self, normalize="channel") if self.normalize == "batch" else self

    @property
    def binary_activations(self) -> bool:
        """Whether the inputs of a layer are one bit each."""
        return isinstance(self.activations, Sign)


@dataclass(frozen=True, repr=False)
class BinaryNormalized(Scheme):
    """Bits above the mean, biases included, and a normalisation without parameters: every parameter is one bit.

    Args:
        weights: a quantizer; ``"unipolar"`` (bits are 0 and 1) and ``"bipolar"`` (-1 and +1) are short for `MeanThreshold` of them.

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
    """The paper's method as it measured best here on images: bits of -1 and +1, a threshold for each output, statistics over the batch, and
    latents that start near their thresholds.

    The default of `onebit.convert` and of recipes for images. Its statistics are over the batch and all positions; sequences that must not look ahead
    take ``Bipolar(normalize="channel")``, which is `of_sequences`.

    Source: docs/accuracy.md compares it with the paper's `BinaryNormalized` and with float networks.
    """

    weights: WeightQuantizer | Values = MeanThreshold("bipolar", per="output")  # type: ignore[assignment]
    normalize: Over | None = "batch"
    latent_spread: float = 0.25


@dataclass(frozen=True, repr=False)
class PureBits(Scheme):
    """Every parameter one bit, and no normalisation of each layer: signs of the weights minus each output's mean, times a constant.

    The constant follows from the layer's size, so that sums of inputs of unit deviation have unit deviation. For networks that normalise before
    their branches, such as ``language_decoder(form="all-bits")``.

    Source: docs/accuracy.md compares it with the paper's `BinaryNormalized`.
    """

    weights: WeightQuantizer = MeanThreshold("bipolar", per="output", scale="inputs")
    bias: Literal["bits", "float"] = "bits"
    norm: Literal["batch", "group"] | None = None


@dataclass(frozen=True, repr=False)
class BinaryConnect(Scheme):
    """Weights by their sign, or at random (``weights=Sign(IDENTITY, stochastic=True)``); float activations; latents clipped to -1..1.

    Source: Courbariaux et al., arXiv 1511.00363, algorithm 1.
    """

    weights: WeightQuantizer = Sign(IDENTITY)
    clip_latents: float | None = 1.0


@dataclass(frozen=True, repr=False)
class BinaryWeightNetwork(Scheme):
    """Weights by their sign, with their mean magnitude as a scale for each output; float activations.

    Source: Rastegari et al., arXiv 1603.05279, section 3.1; `scaled_sign` says what else its authors' code does.
    """

    weights: WeightQuantizer = ScaledSign("output", CLIPPED, share=True)


@dataclass(frozen=True, repr=False)
class BinaryNet(Scheme):
    """Weights and activations by their sign, the activations' gradient clipped, batch normalisation and a hard tanh between layers.

    Source: Courbariaux et al., arXiv 1602.02830, algorithm 1. The weights' gradient is the identity: their latents are clipped instead.
    """

    weights: WeightQuantizer = Sign(IDENTITY)
    activations: ActivationQuantizer | None = Sign()
    clip_latents: float | None = 1.0
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = "hardtanh"


@dataclass(frozen=True, repr=False)
class XnorNet(Scheme):
    """Weights and activations by their sign, with a scale for each output and, from the inputs' magnitudes, for each position.

    Source: Rastegari et al., arXiv 1603.05279, section 3.2. The gradient goes through the inputs' magnitudes too. The paper's blocks begin with the
    batch normalisation, which is the same as one after the layer before. Its authors' code omits the inputs' magnitudes:
    ``input_scale=False``.
    """

    weights: WeightQuantizer = ScaledSign("output", CLIPPED, share=True)
    activations: ActivationQuantizer | None = Sign()
    input_scale: bool = True
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = None


@dataclass(frozen=True, repr=False)
class DoReFa(Scheme):
    """Weights, activations and gradients of chosen numbers of bits.

    Args:
        weights, activations, gradients: numbers of bits, 1 to 8, as the paper writes them (W, A, G). 32 leaves activations or gradients float.

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
    """Weights and activations by their sign, a float shortcut around each layer, and a smoother gradient.

    Source: Liu et al., arXiv 1808.00278, and its authors' PyTorch code, whose weights have the clipped gradient; the paper's has their mean magnitude
    as a factor too.
    """

    weights: WeightQuantizer = ScaledSign("output", CLIPPED)
    activations: ActivationQuantizer | None = Sign(POLYNOMIAL)
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = None
    shortcuts: int = 1


@dataclass(frozen=True, repr=False)
class ReActNet(Scheme):
    """Bi-Real Net with learned thresholds before the signs (RSign) and learned shifts and slopes after the layers (RPReLU).

    Source: Liu et al., arXiv 2003.03488, and its authors' code. A threshold is subtracted here and its negative added there.
    """

    weights: WeightQuantizer = ScaledSign("output", CLIPPED)
    activations: ActivationQuantizer | None = Sign(POLYNOMIAL)
    input_shift: bool = True
    nonlinearity: Literal["relu", "hardtanh", "rprelu"] | None = "rprelu"
    shortcuts: int = 1


@dataclass(frozen=True, repr=False)
class NormFree(Scheme):
    """ReActNet without batch normalisation: weights standardised before their sign, a learned gain, gradients clipped adaptively.

    ``NormFree(norm="group")`` adds a group normalisation, which the paper does not have.

    Source: Chen et al., BNN - BN = ?, arXiv 2104.08215, and its authors' code, with the clipping of its script for ImageNet. That code
    multiplies whole blocks with alpha and beta; here that is the network's task.
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
    """Weights by their sign above the mean, one scale a layer; inputs normalised, then quantised to 8 bits.

    Source: Wang et al., arXiv 2310.11453.
    """

    weights: WeightQuantizer = CenteredSign()
    activations: ActivationQuantizer | None = AbsMax(8)
    input_normalize: bool = True
    norm: Literal["batch", "group"] | None = None


@dataclass(frozen=True, repr=False)
class BitNet158(BitNet):
    """BitNet with weights of -1, 0 and +1.

    Source: Ma et al., arXiv 2402.17764. Its authors normalise the inputs by their root mean square; here, as in BitNet, the mean is taken from
    them too.
    """

    weights: WeightQuantizer = Ternary()


SCHEMES: dict[str, type[Scheme]] = {
    scheme.__name__: scheme
    for scheme in (
        BinaryNormalized,
        Bipolar,
        PureBits,
        BinaryConnect,
        BinaryWeightNetwork,
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


def split_scheme(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the options of a scheme in a text, `Name` or `Name(option=value, ...)`; raises ValueError as `parse_scheme` does."""
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
        raise ValueError(f"scheme={shown(text)}: write a name, or Name(option=value, ...)") from None
    return found[1], options


def _plain_value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
