"""The transformer block, with binary or float layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from onebit.errors import shown
from onebit.nn.activations import HIDDEN_ACTIVATIONS
from onebit.nn.arguments import chosen_scheme
from onebit.nn.attention import CausalAttention, KeyValueCache
from onebit.nn.linear import BinaryLinear
from onebit.nn.normalize import Normalize
from onebit.schemes import Scheme

Positions = Literal["learned", "rotary"]
Mlp = Literal["plain", "gated"]


class TransformerBlock(nn.Module):
    r"""Attention and two dense layers. Each is added to its input and then normalised (post-norm), or normalised before (pre-norm).

    .. math:: y = \operatorname{norm}(x + a \operatorname{attention}(x)), \qquad
              \operatorname{norm}(y + a \operatorname{contract}(\operatorname{gelu}(\operatorname{expand}(y))))

    .. math:: y = x + a \operatorname{attention}(\operatorname{norm}(x)), \qquad
              y + a \operatorname{contract}(\operatorname{gelu}(\operatorname{expand}(\operatorname{norm}(y)))) \text{ (pre-norm)}

    Args:
        features: the features of a token.
        heads: the number of attention heads.
        hidden: the features between the two dense layers.
        linear: a function that makes a dense layer of (in, out) features.
        norm: a function that makes a normalisation of a number of features.
        residual_scale: a. If a is 1 and the branch has unit deviation, each block halves the share of its input, and after many blocks the input
            is lost. 0.35 measured best in binary networks.
        pre_norm: whether to normalise before the branches, which leaves the sum as it is.
        positions: ``"learned"`` (part of `x`) or ``"rotary"``: queries and keys are turned; see `RotaryPositions`.
        kv_heads: the heads of keys and values, a divisor of `heads`; None for `heads`.
        mlp: ``"plain"``, or ``"gated"``: the hidden layer is act(gate(y)) * expand(y), with a third dense layer `gate`.
        activation: ``"gelu"``, ``"silu"`` or ``"relu_squared"``. None for "gelu", and for "silu" in a gate.
        sub_norm: whether to normalise before the last projection of each branch too (SubLN).
        of_attention: other options of `CausalAttention`, such as `head_size`.

    Shape:
        (batch, time, features) to the same. A token depends only on itself and the tokens before it.

    Raises:
        ValueError: an option is unknown, or the numbers of heads do not fit.

    Source: arXiv 2509.07025, algorithm 5. Gates: arXiv 2002.05202; SubLN: arXiv 2210.06423.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        hidden: int,
        linear: Callable[[int, int], nn.Module],
        norm: Callable[[int], nn.Module],
        residual_scale: float = 1.0,
        pre_norm: bool = False,
        *,
        positions: Positions = "learned",
        kv_heads: int | None = None,
        mlp: Mlp = "plain",
        activation: str | None = None,
        sub_norm: bool = False,
        **of_attention: Any,
    ) -> None:
        super().__init__()
        activation = ("silu" if mlp == "gated" else "gelu") if activation is None else activation
        check_options(type(self).__name__, positions=positions, mlp=mlp, activation=activation)
        self.residual_scale = residual_scale
        self.pre_norm = pre_norm
        self.attention = CausalAttention(
            features,
            heads,
            linear,
            kv_heads=kv_heads,
            norm=norm if sub_norm else None,
            **{"rotary": positions == "rotary"} | of_attention,
        )
        self.attention_norm = norm(features)
        self.expand = linear(features, hidden)
        self.gate = linear(features, hidden) if mlp == "gated" else None
        self.activation = HIDDEN_ACTIVATIONS[activation]()
        self.hidden_norm = norm(hidden) if sub_norm else None
        self.contract = linear(hidden, features)
        self.norm = norm(features)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """With a cache, `x` contains only new tokens; see `CausalAttention`."""
        attended = self.attention_norm(x) if self.pre_norm else x
        y = x + self._scaled(self.attention(attended) if cache is None else self.attention(attended, cache))
        if not self.pre_norm:
            y = self.attention_norm(y)
        z = y + self._scaled(self.contract(self._hidden(self.norm(y) if self.pre_norm else y)))
        result: Tensor = z if self.pre_norm else self.norm(z)
        return result

    def _hidden(self, y: Tensor) -> Tensor:
        hidden: Tensor = self.expand(y)
        hidden = self.activation(hidden) if self.gate is None else self.activation(self.gate(y)) * hidden
        return hidden if self.hidden_norm is None else self.hidden_norm(hidden)

    def _scaled(self, branch: Tensor) -> Tensor:
        return branch if self.residual_scale == 1 else branch * self.residual_scale

    def extra_repr(self) -> str:
        return f"residual_scale={self.residual_scale}, pre_norm={self.pre_norm}"


# What an option by name may be.
NAMED_OPTIONS: dict[str, tuple[str, ...]] = {
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary"),
    "mlp": ("plain", "gated"),
    "activation": tuple(HIDDEN_ACTIVATIONS),
}


def check_options(where: str, **named: Any) -> None:
    """Refuse a name that an option does not have; raises ValueError."""
    for option, value in named.items():
        if value not in NAMED_OPTIONS[option]:
            raise ValueError(f"[{where}] {option}={shown(value)}: use {', '.join(NAMED_OPTIONS[option])}")


class BinaryTransformerBlock(TransformerBlock):
    """A transformer block with one bit per parameter.

    Args:
        features, heads, hidden, residual_scale, pre_norm: see `TransformerBlock`. `hidden` is 2 * features by default, as in the paper.
        positions, kv_heads, mlp, activation, sub_norm: see `TransformerBlock`.
        scheme: the scheme of the dense layers; see `BinaryLinear`.

    Example:
        >>> BinaryTransformerBlock(64, heads=4)(torch.randn(2, 10, 64)).shape
        torch.Size([2, 10, 64])

    Source: arXiv 2509.07025, algorithm 5.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        hidden: int | None = None,
        residual_scale: float = 1.0,
        pre_norm: bool = False,
        *,
        positions: Positions = "learned",
        kv_heads: int | None = None,
        mlp: Mlp = "plain",
        activation: str | None = None,
        sub_norm: bool = False,
        scheme: Scheme | None = None,
        **old: Any,
    ) -> None:
        chosen = chosen_scheme("BinaryTransformerBlock", scheme, old)

        def linear(inputs: int, outputs: int) -> nn.Module:
            return BinaryLinear(inputs, outputs, scheme=chosen)

        def norm(width: int) -> nn.Module:
            return Normalize("channel", width, old.get("eps", 1e-5))

        super().__init__(
            features,
            heads,
            hidden or 2 * features,
            linear,
            norm,
            residual_scale,
            pre_norm,
            positions=positions,
            kv_heads=kv_heads,
            mlp=mlp,
            activation=activation,
            sub_norm=sub_norm,
        )
