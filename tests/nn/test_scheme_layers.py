"""Every scheme in every layer against PyTorch's own operation on the weights and inputs that the source's formulas give, forward and backward.

The formulas are written out here once more, in the literature's way: the value of the quantised tensor, the gradient of a surrogate.
"""

import copy
import io
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from onebit.nn import (
    BinaryAttention,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose2d,
    BinaryEmbedding,
    BinaryLinear,
    BinarySeparableConv2d,
    RPReLU,
    RSign,
    nonlinearity_of,
    norm_of,
)
from onebit.quantizers import AbsMax, ScaledSign, Sign
from onebit.quantizers.gradients import IDENTITY, Tanh
from onebit.quantizers.levels import STEPS
from onebit.schemes import (
    SCHEMES,
    BinaryConnect,
    BinaryNet,
    BinaryNormalized,
    BinaryWeightNetwork,
    Bipolar,
    BiRealNet,
    BitNet,
    BitNet158,
    DoReFa,
    KBitWeightNetwork,
    Nested,
    NormFree,
    PureBits,
    ReActNet,
    Scheme,
    XnorNet,
)


def value_of(q, surrogate):
    return surrogate + (q - surrogate).detach()


def signs(v):
    return torch.where(v >= 0, 1.0, -1.0).to(v.dtype)


def outputs_apart(w, axis):
    return [a for a in range(w.dim()) if a != axis]


def mean_threshold(w, axis):
    return value_of((w > w.mean()).to(w.dtype), w)


def own_mean_threshold(w, axis):
    return value_of(torch.where(w > w.mean(outputs_apart(w, axis), keepdim=True), 1.0, -1.0).to(w.dtype), w)


def own_mean_threshold_by_inputs(w, axis):
    return (w.numel() / w.shape[axis]) ** -0.5 * own_mean_threshold(w, axis)


def plain_sign(w, axis):
    return value_of(signs(w), w)


def clipped_scaled_sign(w, axis):
    alpha = w.abs().mean(outputs_apart(w, axis), keepdim=True)
    return value_of(alpha * signs(w), w.clamp(-1, 1))


def xnor_weights(w, axis):
    alpha = w.abs().mean(outputs_apart(w, axis), keepdim=True).detach()
    return value_of(alpha * signs(w), alpha * w.clamp(-1, 1) + w * w.shape[axis] / w.numel())


def evenly_spaced(bits, step):
    """Levels at odd multiples of half a step; `step` is of the normal distribution (Max 1960, table 2), whose deviation the mean magnitude tells."""

    def quantized(w, axis):
        deviation = (math.pi / 2) ** 0.5 * w.abs().mean(outputs_apart(w, axis), keepdim=True)
        half = step * deviation.detach() / 2
        lowest = 1 - 2**bits
        return value_of(half * (2 * (w / (2 * half)).floor() + 1).clamp(lowest, -lowest), w)

    return quantized


def dorefa_weights(bits):
    def quantized(w, axis):
        if bits == 1:
            return value_of(w.abs().mean() * signs(w), w)
        unit = torch.tanh(w) / (2 * torch.tanh(w).abs().max()) + 0.5
        return 2 * value_of((unit * (2**bits - 1)).round() / (2**bits - 1), unit) - 1

    return quantized


def norm_free_weights(w, axis):
    others = outputs_apart(w, axis)
    deviation, mean = torch.std_mean(w, others, correction=0, keepdim=True)
    standard = (w - mean) / (deviation * (w.numel() / w.shape[axis]) ** 0.5)
    return value_of(standard.abs().mean(others, keepdim=True) * signs(standard), standard.clamp(-1, 1))


def bitnet_weights(w, axis):
    return value_of(w.abs().mean() * torch.where(w > w.mean(), 1.0, -1.0), w)


def bitnet158_weights(w, axis):
    gamma = w.abs().mean()
    return value_of(gamma * (w / gamma).round().clamp(-1, 1), w)


def clipped_sign(x, layer, axes):
    return value_of(signs(x), x.clamp(-1, 1))


def polynomial_sign(x, layer, axes):
    inner = torch.where(x < 0, 2 * x + x * x, 2 * x - x * x)
    return value_of(signs(x), torch.where(x.abs() < 1, inner, signs(x)))


def shifted_sign(x, layer, axes):
    threshold = layer.threshold.view(-1, *[1] * len(axes[1:])) if len(axes) > 1 else layer.threshold
    return polynomial_sign(x - threshold, layer, axes)


def dorefa_activations(bits):
    def quantized(x, layer, axes):
        unit = x.clamp(0, 1)
        return value_of((unit * (2**bits - 1)).round() / (2**bits - 1), unit)

    return quantized


def bitnet_activations(bits):
    def quantized(x, layer, axes):
        channel = 1 if len(axes) > 1 else -1
        x = (x - x.mean(channel, keepdim=True)) / (x.var(channel, correction=0, keepdim=True) + 1e-5).sqrt()
        step = x.abs().amax(axes, keepdim=True) / (2 ** (bits - 1) - 1)
        return value_of((x / step).round() * step, x)

    return quantized


def unchanged(x, layer, axes):
    return x


# A scheme, its weights and its inputs.
def nested(planes):
    def weights(w, axis):
        others = outputs_apart(w, axis)
        rest = w - w.mean(others, keepdim=True)
        alpha, found = rest.abs().mean(others, keepdim=True), 0
        for plane in range(planes):
            part = alpha / 2**plane * torch.where(rest > 0, 1.0, -1.0).to(w.dtype)
            rest, found = rest - part, found + part
        return value_of(found.detach(), w)

    return weights


TEXTBOOK = [
    (BinaryNormalized(), mean_threshold, unchanged),
    (Bipolar(normalize="channel"), own_mean_threshold, unchanged),
    (Nested(3, normalize="channel"), nested(3), unchanged),
    (PureBits(), own_mean_threshold_by_inputs, unchanged),
    (BinaryConnect(), plain_sign, unchanged),
    (BinaryWeightNetwork(), xnor_weights, unchanged),
    (KBitWeightNetwork(), evenly_spaced(2, STEPS[1]), unchanged),
    (KBitWeightNetwork(weights=4), evenly_spaced(4, STEPS[3]), unchanged),
    (BinaryNet(), plain_sign, clipped_sign),
    (XnorNet(), xnor_weights, clipped_sign),
    (DoReFa(), dorefa_weights(1), dorefa_activations(2)),
    (DoReFa(weights=3, activations=4), dorefa_weights(3), dorefa_activations(4)),
    (DoReFa(weights=8, activations=32), dorefa_weights(8), unchanged),
    (BiRealNet(), clipped_scaled_sign, polynomial_sign),
    (ReActNet(), clipped_scaled_sign, shifted_sign),
    (NormFree(), norm_free_weights, shifted_sign),
    (BitNet(), bitnet_weights, bitnet_activations(8)),
    (BitNet158(activations=AbsMax(16)), bitnet158_weights, bitnet_activations(16)),
]
IDS = [repr(scheme) for scheme, _, _ in TEXTBOOK]


def scatter(layer):
    """Latents, thresholds, gains and biases of every kind; none of them on a threshold."""
    torch.manual_seed(0)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return layer.double()


def expected(layer, x, weights, inputs, product, magnitude=None, image=False, axis=0):
    """What the scheme's formulas make of the input, with PyTorch's operation."""
    scheme = layer.scheme
    axes = tuple(range(1, x.dim())) if image else (-1,)

    def channels(v):
        return v.view(-1, *[1] * (x.dim() - 2)) if image else v

    y = product(inputs(x, layer, axes), weights(layer.weight, axis))
    if scheme.input_scale:
        y = y * (x.abs().mean(-1, keepdim=True) if magnitude is None else magnitude(x.abs().mean(1, keepdim=True)))
    if scheme.gain:
        y = y * channels(layer.gain)
    if layer.bias is not None:
        bias = layer.bias
        if scheme.bias == "bits":
            low = 0.0 if scheme.weights.values == "unipolar" else -1.0
            bias = value_of(torch.where(bias > bias.mean(), 1.0, low).to(bias.dtype), bias)
            if (
                getattr(scheme.weights, "scale", None) == "inputs"
            ):  # bits are added to the sums, which are scaled together
                bias = bias * (layer.weight.numel() / layer.weight.shape[axis]) ** -0.5
        y = y + channels(bias)
    if scheme.normalize is not None:
        over = [1 if image else y.dim() - 1]
        if scheme.normalize == "batch":
            over = [a for a in range(y.dim()) if a not in over]
        y = (y - y.mean(over, keepdim=True)) / (y.var(over, correction=0, keepdim=True) + 1e-5).sqrt()
    return y


def check(layer, x, weights, inputs, product, **options):
    """Outputs, and the gradients of the inputs and of every parameter."""
    results = []
    leaves = [x] if x.is_floating_point() else []
    for compute in (layer, lambda v: expected(layer, v, weights, inputs, product, **options)):
        layer.zero_grad(set_to_none=True)
        x = x.detach().clone().requires_grad_(bool(leaves))
        y = compute(x)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape))
        gradients = {name: p.grad for name, p in layer.named_parameters()}
        results.append((y.detach(), {**gradients, "input": x.grad}))
    (y, gradients), (y_expected, gradients_expected) = results
    torch.testing.assert_close(y, y_expected, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        if gradient is None:
            assert gradients_expected[name] is None, name
            continue
        torch.testing.assert_close(
            gradient, gradients_expected[name], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize(("scheme", "weights", "inputs"), [*TEXTBOOK, (Bipolar(), own_mean_threshold, unchanged)])
@pytest.mark.parametrize("shape", [(5, 11), (2, 3, 11)])
def test_linear(scheme, weights, inputs, shape):
    layer = scatter(BinaryLinear(11, 6, scheme=scheme))
    check(layer, torch.randn(shape, dtype=torch.float64), weights, inputs, F.linear)


CONV2D = (BinaryConv2d, F.conv2d, (7, 6), {"kernel_size": (3, 2), "stride": 2, "padding": (1, 2), "dilation": 2})
OTHER_CONVOLUTIONS = [
    (BinaryConv1d, F.conv1d, (9,), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (BinaryConv2d, F.conv2d, (5, 5), {"kernel_size": 3, "padding": "same", "bias": False}),
    (BinaryConv3d, F.conv3d, (4, 5, 3), {"kernel_size": (2, 3, 1), "padding": (1, 0, 1)}),
]


# Those that do something to the axes of an image: normalise outputs or inputs, scale by windows, shift channels.
AXES = [case for case in TEXTBOOK if isinstance(case[0], (BinaryNormalized, XnorNet, ReActNet, BitNet))]


@pytest.mark.parametrize(
    ("scheme", "weights", "inputs", "kind", "operation", "size", "options"),
    [(*case, *CONV2D) for case in TEXTBOOK] + [(*case, *other) for case in AXES for other in OTHER_CONVOLUTIONS],
)
def test_convolutions(scheme, weights, inputs, kind, operation, size, options):
    layer = scatter(kind(4, 6, **options, scheme=scheme))
    window = {key: options[key] for key in ("stride", "padding", "dilation") if key in options}

    def magnitude(mean):
        kernel = torch.ones(1, 1, *layer.kernel_size, dtype=mean.dtype) / math.prod(layer.kernel_size)
        return operation(mean, kernel, **window)

    check(
        layer,
        torch.randn(3, 4, *size, dtype=torch.float64),
        weights,
        inputs,
        lambda x, w: operation(x, w, **window),
        magnitude=magnitude,
        image=True,
    )


@pytest.mark.parametrize(("scheme", "weights", "inputs"), TEXTBOOK, ids=IDS)
def test_depthwise_and_grouped(scheme, weights, inputs):
    scheme = replace(scheme, input_scale=False)
    for groups in (2, 4):
        layer = scatter(BinaryConv2d(4, 8, 3, padding=1, groups=groups, scheme=scheme))

        def product(x, w, groups=groups):
            return F.conv2d(x, w, padding=1, groups=groups)

        check(layer, torch.randn(2, 4, 5, 6, dtype=torch.float64), weights, inputs, product, image=True)


@pytest.mark.parametrize(("scheme", "weights", "inputs"), TEXTBOOK, ids=IDS)
def test_transposed(scheme, weights, inputs):
    scheme = replace(scheme, input_scale=False)
    layer = scatter(BinaryConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, scheme=scheme))
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64)

    def product(v, w):
        return F.conv_transpose2d(v, w, stride=2, padding=1, output_padding=1)

    check(layer, x, weights, inputs, product, image=True, axis=1)
    assert layer(x).shape == torch.nn.ConvTranspose2d(4, 6, 3, 2, 1, 1).double()(x).shape


@pytest.mark.parametrize(("scheme", "weights", "inputs"), TEXTBOOK, ids=IDS)
def test_embedding_looks_up_what_a_dense_layer_makes_of_one_hot_vectors(scheme, weights, inputs):
    layer = scatter(BinaryEmbedding(9, 6, scheme=scheme))
    tokens = torch.randint(0, 9, (3, 5))

    def product(x, w):
        return F.one_hot(x, 9).double() @ w

    check(layer, tokens, weights, unchanged, product, axis=1)


@pytest.mark.parametrize(("scheme", "weights", "inputs"), TEXTBOOK, ids=IDS)
def test_attention_projects_with_the_schemes_layers(scheme, weights, inputs):
    layer = scatter(BinaryAttention(8, 2, scheme=scheme))
    x = torch.randn(2, 5, 8, dtype=torch.float64)

    def project(part, v):
        return expected(part, v, weights, inputs, F.linear)

    q, k, v = (project(part, x).unflatten(-1, (2, 4)).transpose(1, 2) for part in (layer.query, layer.key, layer.value))
    mask = torch.full((5, 5), -torch.inf, dtype=torch.float64).triu(1)
    seen = ((q @ k.transpose(-1, -2) / 2 + mask).softmax(-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x), project(layer.out, seen), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("scheme", "weights", "inputs"), TEXTBOOK, ids=IDS)
def test_separable_is_depthwise_then_pointwise(scheme, weights, inputs):
    layer = scatter(BinarySeparableConv2d(4, 6, stride=2, scheme=scheme)).eval()
    depthwise, norm, nonlinearity, pointwise, *behind = layer
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    y = expected(depthwise, x, weights, inputs, lambda v, w: F.conv2d(v, w, None, 2, 1, 1, 4), image=True)
    y = nonlinearity(norm(y))
    y = expected(pointwise, y, weights, inputs, F.conv2d, magnitude=lambda mean: mean, image=True)
    for part in behind:
        y = part(y)
    torch.testing.assert_close(layer(x), y, rtol=1e-5, atol=1e-5)
    assert layer(x).shape == (2, 6, 3, 3)


def test_xnors_factor_is_the_mean_magnitude_of_each_window():
    layer = BinaryConv2d(3, 2, 3, stride=2, padding=1, bias=False, scheme=XnorNet())
    x = torch.randn(1, 3, 5, 4)
    plain = copy.deepcopy(layer)
    plain.scheme = XnorNet(input_scale=False)
    padded = F.pad(x, (1, 1, 1, 1))
    for row in range(3):
        for column in range(2):
            total = 0.0
            for channel in range(3):
                for i in range(3):
                    for j in range(3):
                        total += abs(padded[0, channel, 2 * row + i, 2 * column + j].item())
            k = total / (3 * 3 * 3)  # padding counts as zeros
            torch.testing.assert_close(layer(x)[0, :, row, column], k * plain(x)[0, :, row, column])


def test_a_padded_place_adds_nothing_under_signs():
    layer = BinaryConv2d(2, 1, 3, padding=1, bias=False, scheme=BinaryNet())
    torch.nn.init.ones_(layer.weight)
    # Read as -1, a padded place would give -2 in the corner, as +1 18 everywhere.
    assert layer(torch.ones(1, 2, 3, 3)).tolist() == [[[[8, 12, 8], [12, 18, 12], [8, 12, 8]]]]


@pytest.mark.parametrize("scheme", [DoReFa(weights=3), BitNet158(), BinaryNet(), BinaryNormalized()], ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        lambda s: BinaryLinear(5, 4, scheme=s),
        lambda s: BinaryConv1d(5, 4, 3, scheme=s),
        lambda s: BinaryConv2d(6, 4, 3, groups=2, scheme=s),
        lambda s: BinaryConv3d(2, 4, 2, scheme=s),
        lambda s: BinaryConvTranspose2d(5, 4, 3, scheme=s),
        lambda s: BinaryEmbedding(5, 4, scheme=s),
    ],
)
def test_bits_are_the_planes_of_what_computes(scheme, make):
    layer = make(scheme)
    planes = scheme.weights.planes
    bits = layer.bits().weight
    assert bits.dtype == torch.bool
    assert bits.shape == (layer.weight.shape if len(planes) == 1 else (len(planes), *layer.weight.shape))
    read = bits.view(len(planes), *layer.weight.shape).float()
    read = read if scheme.weights.values == "unipolar" else 2 * read - 1
    axis = 1 if isinstance(layer, (BinaryConvTranspose2d, BinaryEmbedding)) else 0
    assert torch.equal(sum(c * p for c, p in zip(planes, read, strict=True)), scheme.weights(layer.weight, axis).codes)
    assert (layer.bits().bias is None) == (scheme.bias == "float")


def test_gradients_of_the_outputs_have_dorefas_levels():
    layer = BinaryLinear(5, 7, bias=False, scheme=DoReFa(weights=1, activations=2, gradients=2))
    x = torch.rand(3, 5)
    seen = []
    layer.weight.register_hook(seen.append)
    y = layer(x)
    arriving = torch.randn(3, 7)
    arriving[:, 0] = torch.tensor([1.0, -2.0, 4.0])
    arriving[:, 1:] = arriving[:, 1:].clamp(-1, 1)
    y.backward(arriving)
    # dL/dw~ is the quantised gradient times the quantised inputs; solve for the former.
    inputs = (x * 3).round() / 3
    gradient = torch.linalg.lstsq(inputs.T.double(), seen[0].T.double()).solution
    share = gradient / (2 * torch.tensor([[1.0], [2.0], [4.0]])) + 0.5
    torch.testing.assert_close(share * 3, (share * 3).round(), rtol=0, atol=1e-4)


def test_quantised_gradients_leave_evaluation_without_a_graph():
    layer = BinaryLinear(5, 7, scheme=DoReFa(gradients=4)).eval()
    with torch.no_grad():
        assert not layer(torch.rand(2, 5)).requires_grad


def test_binary_biases_and_scales_in_one_layer():
    scheme = Scheme(ScaledSign(), AbsMax(8), bias="bits", gain=True)
    layer = scatter(BinaryLinear(6, 4, scheme=scheme))
    x = torch.randn(3, 6, dtype=torch.float64)
    step = x.abs().amax(-1, keepdim=True) / 127
    alpha = layer.weight.abs().mean(1) * layer.gain
    sums = F.linear((x / step).round() * step, signs(layer.weight)) + signs(layer.bias - layer.bias.mean())
    torch.testing.assert_close(layer(x), alpha * sums, rtol=1e-5, atol=1e-5)


def test_progress_reaches_the_gradients():
    layer = BinaryLinear(6, 4, scheme=Scheme(Sign(Tanh()), Sign(Tanh())))
    x = torch.randn(5, 6)

    def gradients(progress):
        layer.progress = progress
        v = x.clone().requires_grad_()
        layer.zero_grad()
        layer(v).square().sum().backward()
        return v.grad, layer.weight.grad.clone()

    for early, late in zip(gradients(0.0), gradients(1.0), strict=True):
        assert not torch.allclose(early, late)


def test_stochastic_weights_change_in_training_and_rest_in_use():
    layer = BinaryLinear(40, 30, scheme=BinaryConnect(weights=Sign(IDENTITY, stochastic=True)))
    x = torch.eye(40)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    torch.testing.assert_close(layer(x), signs(layer.weight).T)


# What a user does with layers.

WHOLE = [scheme for scheme, _, _ in TEXTBOOK]


@pytest.mark.parametrize("scheme", WHOLE, ids=IDS)
def test_layers_copy_save_and_load(scheme):
    layer = BinaryConv2d(4, 6, 3, scheme=scheme).eval()
    scatter(layer).float()
    x = torch.randn(2, 4, 5, 5)
    y = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), y)
    other = BinaryConv2d(4, 6, 3, scheme=scheme).eval()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), y)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert loaded.scheme == scheme
    assert torch.equal(loaded(x), y)
    assert repr(scheme) in repr(layer)


@pytest.mark.parametrize("scheme", WHOLE, ids=IDS)
def test_precision_memory_order_and_empty_batches(scheme):
    layer = scatter(BinaryConv2d(4, 6, 3, padding=1, scheme=scheme)).float().eval()
    x = torch.randn(2, 4, 5, 6)
    y = layer(x)
    torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last)), y, rtol=1e-4, atol=1e-4)
    assert layer(x[:0]).shape == (0, 6, 5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = layer(x)
    torch.testing.assert_close(cast.float(), y, rtol=0.05, atol=0.05 * y.abs().max().item())
    for dtype in (torch.bfloat16, torch.float16):
        low = copy.deepcopy(layer).to(dtype).train()
        z = low(x.to(dtype))
        assert z.dtype == dtype
        z.float().square().mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in low.parameters())


@pytest.mark.parametrize("scheme", [DoReFa(weights=2), ReActNet()], ids=repr)
def test_torch_compile_keeps_results_and_gradients(scheme):
    layer = scatter(BinaryConv2d(3, 4, 3, scheme=scheme)).float()
    compiled = torch.compile(copy.deepcopy(layer), backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(compiled(x), layer(x))
    compiled(x).square().sum().backward()
    layer(x).square().sum().backward()
    for ours, theirs in zip(compiled.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_attention_takes_an_empty_batch():
    assert BinaryAttention(8, 2)(torch.randn(0, 5, 8)).shape == (0, 5, 8)


@pytest.mark.parametrize("over", ["channel", "example", "batch"])
@pytest.mark.parametrize(("kind", "size"), [(BinaryConv1d, (9,)), (BinaryConv3d, (4, 5, 3))])
def test_convolutions_of_any_number_of_axes_are_normalised_over_channels(kind, size, over):
    layer = scatter(kind(4, 6, 2, scheme=BinaryNormalized(normalize=over)))
    x = torch.randn(3, 4, *size, dtype=torch.float64)
    y = layer(x)
    axes = {"channel": (1,), "example": tuple(range(1, y.dim())), "batch": (0, *range(2, y.dim()))}[over]
    torch.testing.assert_close(y.mean(axes), torch.zeros_like(y.mean(axes)), rtol=0, atol=1e-9)
    torch.testing.assert_close(y.var(axes, correction=0), torch.ones_like(y.mean(axes)), rtol=1e-3, atol=0)


# What stands between layers.


def test_rsign_is_the_sign_above_each_channels_threshold():
    layer = RSign(3)
    threshold = torch.tensor([0.5, -1.0, 0.0])
    layer.threshold.data = threshold
    x = torch.randn(4, 3, 2, 5, requires_grad=True)
    y = layer(x)
    assert torch.equal(y, torch.where(x >= threshold.view(1, 3, 1, 1), 1.0, -1.0))
    gradient = torch.randn(4, 3, 2, 5)
    y.backward(gradient)
    factor = (2 - 2 * (x.detach() - threshold.view(1, 3, 1, 1)).abs()).clamp_min(0)
    torch.testing.assert_close(x.grad, gradient * factor)
    torch.testing.assert_close(layer.threshold.grad, -(gradient * factor).sum((0, 2, 3)))
    assert layer(torch.tensor([[0.4, -0.9, 0.0]])).tolist() == [[-1, 1, 1]]


def test_rprelu_shifts_bends_and_shifts():
    layer = RPReLU(3)
    assert layer.slope.tolist() == [0.25] * 3
    scatter(layer)
    x = torch.randn(4, 3, 2, 5, dtype=torch.float64)

    def wide(v):
        return v.view(1, 3, 1, 1)

    shifted = x - wide(layer.shift_in)
    y = torch.where(shifted > 0, shifted, wide(layer.slope) * shifted) + wide(layer.shift_out)
    torch.testing.assert_close(layer(x), y)
    torch.testing.assert_close(layer(x[..., 0, 0]), y[..., 0, 0])


def test_what_a_scheme_puts_behind_a_layer():
    x = torch.randn(2, 48, 3, 3)
    assert isinstance(norm_of(None, 48), torch.nn.BatchNorm2d)
    assert isinstance(norm_of(BinaryNet(), 48, image=False), torch.nn.BatchNorm1d)
    group = norm_of(NormFree(norm="group"), 48)
    assert (group.num_groups, group(x).shape) == (3, x.shape)  # of 16 channels each
    assert isinstance(norm_of(BitNet(), 48), torch.nn.Identity)
    kinds = [type(nonlinearity_of(s, 48)) for s in (None, BinaryNet(), ReActNet(), XnorNet(), DoReFa())]
    assert kinds == [torch.nn.ReLU, torch.nn.Hardtanh, RPReLU, torch.nn.Identity, torch.nn.ReLU]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BinaryConv2d(4, 4, 3, groups=2, scheme=XnorNet()), r"groups=2: XnorNet .* use XnorNet\(input_scale=F"),
        (lambda: BinaryConvTranspose2d(4, 4, 3, scheme=XnorNet()), r"\[BinaryConvTranspose2d\] XnorNet scales by"),
        (lambda: BinaryConvTranspose2d(4, 4, 3, groups=2), r"\[BinaryConvTranspose2d\] groups=2: use 1"),
        (
            lambda: BinaryConvTranspose2d(4, 4, 3)(torch.ones(1, 4, 2, 2), [5, 5]),
            "output_size is not supported: use output_padding",
        ),
        (lambda: BinaryLinear(4, 4, scheme="BinaryNet"), r"\[BinaryLinear\] scheme='BinaryNet': use one of"),
        (lambda: BinaryLinear(4, 4, scheme=BinaryNet), r"\[BinaryLinear\] scheme=<class .*BinaryNet'>: use one of"),
        (
            lambda: BinaryConv2d(4, 4, 3, padding_mode="circular", scheme=XnorNet()),
            r"windows with zero padding: use XnorNet\(",
        ),
        (lambda: BinaryEmbedding(4, 4, scheme=BinaryNet(normalize="batch")), "'batch' applies to images"),
    ],
)
def test_layers_that_a_scheme_is_not_defined_for(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_scheme_is_tested_here():
    assert {type(scheme) for scheme, _, _ in TEXTBOOK} == set(SCHEMES.values())
