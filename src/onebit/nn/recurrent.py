"""Binary LSTM and GRU, with the inputs and outputs of `nn.LSTM` and `nn.GRU`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.arguments import chosen_scheme
from onebit.nn.binary import BinaryLayer
from onebit.nn.linear import BinaryLinear
from onebit.quantizers import ActivationQuantizer, Elastic, Sign
from onebit.quantizers.gradients import quantize_gradient
from onebit.schemes import Scheme

# The initial value of the learned scales of normalised recurrent sums. Those of the inputs' half start at 1. Ardakani et al. start both at 0.1.
# The loss after 150 steps on text is 5.70 (BinaryConnect) and 5.73 (BinaryNet). With 0.1 in both halves it is 5.99 and 5.97, with 1 in both
# 5.94 and 5.79.
START_GAIN = 0.1


class Affine(NamedTuple):
    """The factor and the shift of the recurrent sums of all gates: float32 (gates * hidden) each."""

    scale: Tensor
    shift: Tensor


class ImageRows(nn.Module):
    """Turn the lines of an image into the steps of a sequence.

    Shape:
        (batch, channels, height, width) to (batch, height, width * channels), with the channels of a pixel next to each other.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(2)


class BinaryRecurrence(BinaryLayer):
    r"""One layer of a binary LSTM or GRU, in one direction of time.

    .. math:: a_t = N_x(W^x_b x_t + b), \qquad u_t = s \, N(W_b \, q(h_{t-1}))

    and the cell of `nn.LSTM` or `nn.GRU` computes h_t from the gates a_t of the inputs and u_t of the hidden state. N and N_x normalise each gate's
    hidden_size sums to zero mean and unit deviation, or do nothing; see `BinaryLSTM`.

    Args:
        kind: ``"lstm"`` or ``"gru"``.
        input_size, hidden_size, bias, scheme: see `BinaryLSTM`.
        quantizer: q, the quantizer of the hidden state; None leaves it float.

    Shape:
        (batch, time, input_size) and a state, h or (h, c), (batch, hidden_size) each, to (batch, time, hidden_size) and the last state.
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        bias: bool,
        scheme: Scheme,
        quantizer: ActivationQuantizer | None,
    ) -> None:
        super().__init__()
        self.kind, self.hidden_size = kind, hidden_size
        self.gates = 4 if kind == "lstm" else 3
        self.scheme = scheme
        self.quantizer = quantizer
        self.progress = 0.0
        self.float_weights = False
        self.normalize = self.threshold = None
        outputs = self.gates * hidden_size
        learned = scheme.normalize is None and scheme.norm is not None and not scheme.weights.keeps_magnitude
        self.normalized = learned or scheme.normalize is not None
        # With a learned shift a bias is redundant.
        self.inputs = BinaryLinear(input_size, outputs, bias and not learned, scheme=replace(scheme, normalize=None))
        self.input_norm = nn.GroupNorm(self.gates, outputs, scheme.eps, affine=learned) if self.normalized else None
        self.weight = nn.Parameter(torch.empty(outputs, hidden_size))
        self.reset_parameters()
        start = torch.full((outputs,), START_GAIN if learned else 1.0)
        if isinstance(scheme.weights, Elastic) and not self.normalized:
            start = scheme.weights.first_scale(self.weight)
        self.gain = nn.Parameter(start) if learned or scheme.gain else None
        # An LSTM adds the sums of both halves, so one bias is enough. In a GRU the reset gate lies between those of the candidate.
        own = kind == "gru" and bias and scheme.bias == "float"
        self.bias = nn.Parameter(torch.zeros(hidden_size)) if own else None

    def affine(self, scale: Tensor | None) -> Affine:
        """The factor and the shift of the recurrent sums, given the scale of the weights' codes. A normalised gate does not need that scale."""
        full = self.weight.new_ones(len(self.weight))
        if scale is not None and not self.normalized:
            full = full * scale
        if self.gain is not None:
            full = full * self.gain
        shift = self.weight.new_zeros(len(self.weight))
        if self.bias is not None:
            shift = torch.cat([shift[: -self.hidden_size], self.bias])
        return Affine(full, shift)

    def forward(  # type: ignore[override]
        self, x: Tensor, state: tuple[Tensor, ...], reverse: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        y = self.inputs(x)
        if self.input_norm is not None:
            y = self.input_norm(y.flatten(0, 1)).view(y.shape)
        steps = _float(y).unbind(1)  # time times (batch, gates * hidden)
        codes, scale = self.weight_codes()
        affine = Affine(*map(_float, self.affine(scale)))
        cell = _lstm_cell if self.kind == "lstm" else _gru_cell
        outputs: list[Tensor] = []
        for gates in reversed(steps) if reverse else steps:
            state = cell(gates, self._recur(state[0], codes, affine), *state)
            outputs.append(state[0])
        return torch.stack(outputs[::-1] if reverse else outputs, 1).to(x.dtype), state

    def _recur(self, h: Tensor, codes: Tensor, affine: Affine) -> Tensor:
        """The recurrent half of all gates, (batch, gates * hidden)."""
        scale = None
        if self.quantizer is not None:
            h, scale = self.quantizer(h, (-1,), self.training, self.progress)
        sums = _float(F.linear(h.to(codes.dtype), codes))
        if scale is not None:
            sums = sums * scale
        if self.scheme.gradients is not None and sums.requires_grad:
            sums = quantize_gradient(sums, self.scheme.gradients)
        if self.normalized:
            sums = F.group_norm(sums, self.gates, eps=self.scheme.eps)
        return torch.addcmul(affine.shift, sums, affine.scale)

    def extra_repr(self) -> str:
        return f"{self.kind}, hidden_size={self.hidden_size}, scheme={self.scheme}, quantizer={self.quantizer}"


def _lstm_cell(a: Tensor, u: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (a + u).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_cell(a: Tensor, u: Tensor, h: Tensor) -> tuple[Tensor]:
    (a_r, a_z, a_n), (u_r, u_z, u_n) = a.chunk(3, -1), u.chunk(3, -1)
    z = torch.sigmoid(a_z + u_z)
    n = torch.tanh(a_n + torch.sigmoid(a_r + u_r) * u_n)
    return (n + z * (h - n),)


def _float(x: Tensor) -> Tensor:
    """The dtype of the state, at least float32: bfloat16 would lose the small additions of each step."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _Recurrent(nn.Module):
    """The common part of `BinaryLSTM` and `BinaryGRU`."""

    kind: ClassVar[str]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        bidirectional: bool = False,
        *,
        scheme: Scheme | None = None,
        binary_hidden: bool = False,
        **old: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for key, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if type(value) is not int or value < 1:
                raise ValueError(f"[{name}] {key}={value!r}: use an integer from 1 up")
        self.scheme = chosen_scheme(name, scheme, old)
        if self.scheme.normalize == "batch":
            raise ValueError(f"[{name}] normalize='batch' would need statistics per time step: use 'channel' or None")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.bidirectional = batch_first, bidirectional
        quantizer = self.scheme.activations
        if binary_hidden or (quantizer is not None and not quantizer.signed):
            quantizer = Sign()
        directions = 2 if bidirectional else 1
        self.layers = nn.ModuleList(
            BinaryRecurrence(
                self.kind,
                input_size if layer == 0 else directions * hidden_size,
                hidden_size,
                bias,
                self.scheme,
                quantizer,
            )
            for layer in range(num_layers)
            for _ in range(directions)
        )

    def _run(self, x: Tensor, state: tuple[Tensor, ...] | None, parts: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The outputs, and for each part of the state the stacked states of all layers and directions."""
        name = type(self).__name__
        if x.dim() != 3 or x.shape[2] != self.input_size:
            axes = "batch, time" if self.batch_first else "time, batch"
            raise ValueError(f"[{name}] input of shape {tuple(x.shape)}: needs ({axes}, {self.input_size})")
        if not self.batch_first:
            x = x.transpose(0, 1)
        if x.shape[1] == 0:
            raise ValueError(f"[{name}] the sequence is empty: give one or more steps")
        shape = (len(self.layers), x.shape[0], self.hidden_size)
        if state is None:
            state = (x.new_zeros(shape),) * parts
        if len(state) != parts or any(part.shape != shape for part in state):
            shapes = ", ".join(str(tuple(part.shape)) for part in state)
            raise ValueError(f"[{name}] initial state of shape {shapes}: needs {' and '.join([str(shape)] * parts)}")
        directions = 2 if self.bidirectional else 1
        ends: list[tuple[Tensor, ...]] = []
        for index in range(0, len(self.layers), directions):
            made = []
            for d in range(directions):
                y, end = self.layers[index + d](x, tuple(_float(part[index + d]) for part in state), reverse=d == 1)
                made.append(y)
                ends.append(end)
            x = made[0] if directions == 1 else torch.cat(made, -1)
        return x if self.batch_first else x.transpose(0, 1), tuple(
            torch.stack(part) for part in zip(*ends, strict=True)
        )

    def extra_repr(self) -> str:
        options = ("num_layers", "batch_first", "bidirectional")
        usual = (1, True, False)
        parts = [
            f"{key}={getattr(self, key)}" for key, u in zip(options, usual, strict=True) if getattr(self, key) != u
        ]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *parts])


class BinaryLSTM(_Recurrent):
    r"""A long short-term memory with binary weights. Its arguments and results are those of `nn.LSTM`.

    .. math:: (i, f, g, o) = a_t + u_t, \qquad a_t = N(W^x_b x_t + b), \qquad u_t = s \, N(W^h_b \, q(h_{t-1}))
    .. math:: c_t = \sigma(f) c_{t-1} + \sigma(i) \tanh(g), \qquad h_t = \sigma(o) \tanh(c_t)

    The inputs' half a is the result of a `BinaryLinear` with the scheme. For the recurrent half:

    - A scheme that normalises (`BinaryNormalized`, the default) normalises both halves without parameters, over the hidden_size sums of each gate.
    - Weights that keep the magnitude of latent weights (XNOR-Net's family, networks without normalisation, BitNet) are codes times their scale.
    - Bare signs (BinaryConnect, BinaryNet) and DoReFa's levels have sums of the order of sqrt(hidden_size), where all gates are shut or open. Both
      halves are then normalised gate by gate, as above, with learned scales and a learned shift. Ardakani et al. normalise each unit over the
      batch. Statistics over the units do not need running means per time step.
    - q is the scheme's quantizer of activations. The sign replaces DoReFa's levels, which begin at 0 and would lose negative values. h is within
      -1..1. So the other operations around a quantizer (normalised inputs, learned thresholds, scales from magnitudes) apply only to the inputs'
      half.

    Args:
        input_size: features of a step.
        hidden_size: features of the state and of the output.
        num_layers: the number of layers. Each layer reads the outputs of the one before.
        bias: whether each gate has a bias (bits or floats, as the scheme says). One bias serves both halves.
        batch_first: as in `nn.LSTM`, but true by default.
        bidirectional: also run from the last step to the first. The outputs of both directions are concatenated.
        scheme: a scheme of `onebit.schemes`. The default is `BinaryNormalized()`.
        binary_hidden: use the sign as q, whatever the scheme says. The recurrent product is then between bits and bits.

    Shape:
        (batch, time, input_size), and an optional state (h, c), (layers * directions, batch, hidden_size) each; to
        ((batch, time, directions * hidden_size), (h, c)). The state is float32 or better; the output has the input's dtype.

    Raises:
        ValueError: a size, the scheme, or the shape of the input or of the state does not fit.

    Example:
        >>> y, (h, c) = BinaryLSTM(28, 64)(torch.randn(32, 28, 28))
        >>> y.shape, h.shape
        (torch.Size([32, 28, 64]), torch.Size([1, 32, 64]))

    Source: Hochreiter and Schmidhuber, 1997, as in `nn.LSTM`. Binary weights with normalised gates are from Ardakani et al., arXiv 1809.11086; the
    reasons are in Hou et al., "Normalization helps training of quantized LSTM", NeurIPS 2019. Statistics over the units are from Ba et al., arXiv
    1607.06450.
    """

    kind = "lstm"

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self._run(x, state, 2)
        return y, (h, c)


class BinaryGRU(_Recurrent):
    r"""Gated recurrent units with binary weights. Their arguments and results are those of `nn.GRU`.

    .. math:: r = \sigma(a_r + u_r), \quad z = \sigma(a_z + u_z), \quad n = \tanh(a_n + r u_n), \quad h_t = (1 - z) n + z h_{t-1}

    with the inputs' half a and the recurrent half u as in `BinaryLSTM`. If biases are floats, u_n has its own, as in `nn.GRU`.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, bidirectional, scheme, binary_hidden: see `BinaryLSTM`.

    Shape:
        (batch, time, input_size), and an optional state h (layers * directions, batch, hidden_size); to
        ((batch, time, directions * hidden_size), h).

    Raises:
        ValueError: a size, the scheme, or the shape of the input or of the state does not fit.

    Example:
        >>> y, h = BinaryGRU(28, 64, num_layers=2)(torch.randn(32, 28, 28))
        >>> y.shape, h.shape
        (torch.Size([32, 28, 64]), torch.Size([2, 32, 64]))

    Source: Cho et al., arXiv 1406.1078, as in `nn.GRU`; see `BinaryLSTM`.
    """

    kind = "gru"

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, (h,) = self._run(x, None if state is None else (state,), 1)
        return y, h
