"""Compare every quantizer with its formula in NumPy, and its gradient with autograd of the textbook's ``c + (q - c).detach()``."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from onebit.quantizers import (
    AbsMax,
    CenteredSign,
    KBitActivations,
    KBitWeights,
    MeanThreshold,
    ScaledSign,
    Sign,
    StandardizedSign,
    Ternary,
    absmax,
    binarize,
    centered_sign,
    k_bit_activations,
    k_bit_weights,
    scaled_sign,
    sign,
    standardized_sign,
    stochastic_sign,
    ternary,
    threshold_bits,
    weight_planes,
)
from onebit.quantizers.gradients import CLIPPED, IDENTITY, Clipped, Polynomial, Swish, Tanh

# Multiples of 1/64 that few numbers are drawn from: their sums are exact in any order, and ties and zeros happen.
dyadic = st.integers(-192, 192).map(lambda i: i / 64)
latents = npst.arrays(np.float64, npst.array_shapes(max_dims=4, max_side=5), elements=dyadic)
weights = npst.arrays(np.float64, npst.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=dyadic)
GRADIENTS = [IDENTITY, CLIPPED, Clipped(0.5), Polynomial(), Swish(), Tanh()]
QUANTIZERS = [
    MeanThreshold("unipolar"),
    MeanThreshold("bipolar"),
    MeanThreshold("unipolar", per="output"),
    MeanThreshold("bipolar", per="output", scale="inputs"),
    MeanThreshold("bipolar", scale=0.75),
    Sign(),
    Sign(stochastic=True),
    ScaledSign("output", share=True),
    ScaledSign("layer"),
    StandardizedSign(),
    CenteredSign(),
    Ternary(),
    *(KBitWeights(k) for k in range(1, 9)),
]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("scale", ["inputs", 0.75])
def test_a_constant_scale_depends_on_the_shape_alone(axis, scale):
    w = torch.randn(6, 4, 3, 3)
    quantizer = MeanThreshold("bipolar", per="output", scale=scale)
    made = quantizer(w, axis)
    assert torch.equal(made.codes, binarize(w, "bipolar", axis=axis))
    assert made.scale == pytest.approx((216 / (6, 4)[axis]) ** -0.5 if scale == "inputs" else 0.75)
    assert quantizer(100 * w, axis).scale == made.scale


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan"), "outputs", True])
def test_a_scale_that_is_no_constant_is_refused(scale):
    with pytest.raises(ValueError, match=r"\[MeanThreshold\] scale=.*: use 'inputs', a number above 0 or None"):
        MeanThreshold(scale=scale)


def one_or_minus_one(w):
    return np.where(w >= 0, 1.0, -1.0)


def wide(scale, w, axis):
    """A scale for each output, to be broadcast against the weight."""
    return scale if scale.dim() == 0 else scale.view([-1 if a == axis else 1 for a in range(w.ndim)])


def straight_through(q, surrogate):
    """The literature's way to write it: the value of q, the gradient of the surrogate."""
    return surrogate + (torch.as_tensor(q) - surrogate).detach()


def check_weights(quantize, textbook, w, axis=0, atol=1e-12):
    """Codes times scale, and the gradient that a latent gets through them, are the textbook's."""
    ours, theirs = (torch.tensor(w, requires_grad=True) for _ in range(2))
    made, expected = quantize(ours), textbook(theirs)
    value = made.codes if made.scale is None else made.codes * wide(made.scale, w, axis)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=atol)
    assert torch.equal(made.codes, made.codes.round())
    gradient = torch.linspace(-1, 2, w.size, dtype=torch.float64).view(w.shape)
    value.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(latents)
def test_bits_are_the_elements_above_the_mean(latent):
    assert np.array_equal(threshold_bits(torch.tensor(latent)).numpy(), latent > latent.mean())


@settings(max_examples=40, deadline=None)
@given(latents)
def test_both_readings_are_of_the_same_bits(latent):
    tensor = torch.tensor(latent)
    assert torch.equal(binarize(tensor, "bipolar"), 2 * binarize(tensor, "unipolar") - 1)


@pytest.mark.parametrize("values", ["01", "pm1"])
def test_gradient_reaches_the_latent_unchanged(values):
    latent = torch.randn(5, 7, requires_grad=True)
    gradient = torch.randn(5, 7)
    binarize(latent, values).backward(gradient)
    assert torch.equal(latent.grad, gradient)


def test_a_constant_latent_is_all_zeros():
    assert not threshold_bits(torch.zeros(9)).any()
    assert not threshold_bits(torch.full((9,), -3.0)).any()


def test_autocast_gives_exact_bfloat16_and_float32_gradients():
    latent = torch.randn(4, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bits = binarize(latent)
    assert bits.dtype == torch.bfloat16
    assert torch.equal(bits.float(), binarize(latent))
    bits.sum().backward()
    assert latent.grad.dtype == torch.float32


@pytest.mark.parametrize(("shape", "axis"), [((5, 7), 0), ((5, 7), 1), ((4, 3, 2, 2), 0), ((4, 3, 2, 2), 1)])
def test_each_output_has_its_own_mean_where_it_is_asked_for(shape, axis):
    latent = np.random.default_rng(0).normal(size=shape) + np.arange(shape[axis]).reshape(
        [-1 if a == axis else 1 for a in range(len(shape))]
    )
    mean = latent.mean(tuple(a for a in range(len(shape)) if a != axis), keepdims=True)
    assert np.array_equal(threshold_bits(torch.tensor(latent), axis).numpy(), latent > mean)
    codes = MeanThreshold("bipolar", per="output")(torch.tensor(latent), axis).codes
    assert np.array_equal(codes.numpy(), np.where(latent > mean, 1, -1))
    assert not torch.equal(codes, MeanThreshold("bipolar")(torch.tensor(latent), axis).codes)


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match=r"values='0/1': use 'unipolar' \(0 and 1\) or 'bipolar'"):
        binarize(torch.zeros(2), "0/1")
    with pytest.raises(ValueError, match=r"\[MeanThreshold\] per='row': use 'layer' or 'output'"):
        MeanThreshold(per="row")


@settings(max_examples=40, deadline=None)
@given(latents)
def test_sign_is_plus_one_from_zero_on(x):
    assert np.array_equal(sign(torch.tensor(x)).numpy(), one_or_minus_one(x))


@pytest.mark.parametrize("gradient", GRADIENTS, ids=repr)
def test_sign_multiplies_the_gradient_with_the_one_it_is_given(gradient):
    x = torch.randn(6, 7, requires_grad=True)
    arriving = torch.randn(6, 7)
    sign(x, gradient, 0.3).backward(arriving)
    factor = gradient(x.detach(), 0.3)
    torch.testing.assert_close(x.grad, arriving if factor is None else arriving * factor)


def test_stochastic_sign_is_plus_one_as_often_as_the_hard_sigmoid_says():
    torch.manual_seed(0)
    x = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.25, 0.75, 1.0, 3.0])
    draws = 20_000
    drawn = stochastic_sign(x.expand(draws, 8))
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    seen = (drawn > 0).double().mean(0)
    expected = torch.tensor([0, 0, 0.25, 0.5, 0.625, 0.875, 1, 1], dtype=torch.float64)
    assert ((seen - expected).abs() <= 5 * (expected * (1 - expected) / draws).sqrt()).all()


def test_stochastic_sign_passes_the_gradient_and_rests_in_use():
    x = torch.randn(50, requires_grad=True)
    gradient = torch.randn(50)
    stochastic_sign(x).backward(gradient)
    assert torch.equal(x.grad, gradient)
    in_use = Sign(stochastic=True)(x, training=False).codes
    assert torch.equal(in_use, sign(x))


@settings(max_examples=40, deadline=None)
@given(weights, st.integers(0, 1), st.sampled_from(["output", "layer"]))
def test_scaled_sign_with_the_clipped_gradient(w, axis, per):
    others = tuple(a for a in range(w.ndim) if a != axis) if per == "output" else None
    q = one_or_minus_one(w) * np.abs(w).mean(others, keepdims=True)
    check_weights(
        lambda v: scaled_sign(v, per, CLIPPED, axis), lambda v: straight_through(q, v.clamp(-1, 1)), w, axis, 1e-11
    )


@settings(max_examples=40, deadline=None)
@given(weights, st.sampled_from(["output", "layer"]))
def test_scaled_sign_with_the_identity(w, per):
    others = tuple(range(1, w.ndim)) if per == "output" else None
    q = one_or_minus_one(w) * np.abs(w).mean(others, keepdims=True)
    check_weights(lambda v: scaled_sign(v, per), lambda v: straight_through(q, v), w, 0, 1e-11)


@settings(max_examples=40, deadline=None)
@given(weights, st.integers(0, 1))
def test_xnor_nets_gradient_shares_the_scale(w, axis):
    others = tuple(a for a in range(w.ndim) if a != axis)
    alpha = np.maximum(np.abs(w).mean(others, keepdims=True), 1e-12)
    latent = torch.tensor(w, requires_grad=True)
    codes, scale = scaled_sign(latent, "output", CLIPPED, axis, share=True)
    gradient = np.linspace(-1, 2, w.size).reshape(w.shape)
    (codes * wide(scale, w, axis)).backward(torch.tensor(gradient))
    n = w.size // w.shape[axis]
    expected = gradient * (1 / n + alpha * (np.abs(w) <= 1))
    np.testing.assert_allclose(latent.grad.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_the_scale_is_the_best_of_all_scales():
    # What "nearest in the least-squares sense" says: no other scale comes nearer to the latents.
    w = torch.randn(3, 40, dtype=torch.float64)
    codes, scale = scaled_sign(w)
    distance = (w - codes * scale[:, None]).square().sum()
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert (w - factor * codes * scale[:, None]).square().sum() > distance


@settings(max_examples=40, deadline=None)
@given(weights)
def test_centered_sign(w):
    q = np.where(w > w.mean(), 1.0, -1.0) * np.abs(w).mean()
    check_weights(centered_sign, lambda v: straight_through(q, v), w, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(weights)
def test_ternary(w):
    gamma = max(np.abs(w).mean(), 1e-12)
    q = np.clip(np.round(w / gamma), -1, 1) * gamma
    check_weights(ternary, lambda v: straight_through(q, v), w, atol=1e-11)


@pytest.mark.parametrize("shape", [(3, 9), (5, 4, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("axis", [0, 1])
def test_standardized_sign(shape, axis):
    w = np.random.default_rng(0).normal(0.3, 2, shape)
    others = tuple(a for a in range(len(shape)) if a != axis)
    n = w.size // shape[axis]

    def textbook(v):
        deviation, mean = torch.std_mean(v, others, correction=0, keepdim=True)
        standard = (v - mean) / (deviation * n**0.5)
        scale = standard.detach().abs().mean(others, keepdim=True)
        return straight_through(standard.detach().sign() * scale, standard.clamp(-1, 1))

    check_weights(lambda v: standardized_sign(v, axis=axis), textbook, w, axis, 1e-9)


def test_standardized_weights_get_their_gradient_beyond_one_deviation():
    w = torch.randn(1, 400, dtype=torch.float64, requires_grad=True)
    codes, scale = standardized_sign(w)
    far = (w.detach() - w.detach().mean()).abs() > 1.5 * w.detach().std()
    (codes * scale[:, None] * far).sum().backward()
    assert (w.grad[far].abs() > 1e-4).all()


@pytest.mark.parametrize("quantize", [scaled_sign, standardized_sign])
def test_gradients_of_scaled_weights_follow_the_progress(quantize):
    w = torch.randn(3, 8, dtype=torch.float64)
    found = []
    for progress in (0.0, 1.0):
        latent = w.clone().requires_grad_()
        codes, scale = quantize(latent, gradient=Tanh(), progress=progress)
        (codes * scale[:, None]).square().sum().backward()
        found.append(latent.grad)
    assert not torch.allclose(*found)


@pytest.mark.parametrize("bits", range(1, 9))
def test_dorefas_weights(bits):
    w = np.random.default_rng(bits).normal(size=(5, 4, 3))
    w[0, 0] = 0
    top = 2**bits - 1

    def textbook(v):
        if bits == 1:
            return straight_through(one_or_minus_one(w) * np.abs(w).mean(), v)
        unit = torch.tanh(v) / (2 * torch.tanh(v).abs().max()) + 0.5
        return 2 * straight_through((unit * top).round() / top, unit) - 1

    check_weights(lambda v: k_bit_weights(v, bits), textbook, w, atol=1e-7)
    codes = k_bit_weights(torch.tensor(w), bits).codes
    assert set(codes.unique().tolist()) <= set(range(-top, top + 1, 2))
    assert codes.abs().max() == top  # the largest latent has the largest code
    assert (codes[0, 0] == 1).all()  # of the two levels beside zero, the upper one


@pytest.mark.parametrize("bits", range(1, 9))
def test_dorefas_activations(bits):
    top = 2**bits - 1
    x = np.concatenate([np.linspace(-0.7, 1.6, 1001), [0.0, 1.0, -0.0]])

    def textbook(v):
        clipped = v.clamp(0, 1)
        return straight_through(np.round(np.clip(x, 0, 1) * top) / top, clipped)

    check_weights(lambda v: k_bit_activations(v, bits), textbook, x, atol=1e-7)
    assert set(k_bit_activations(torch.tensor(x), bits).codes.tolist()) == set(range(top + 1))


@settings(max_examples=40, deadline=None)
@given(
    npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-9, 9, width=32)),
    st.sampled_from([8, 16]),
    st.booleans(),
)
def test_absmax(x, bits, image):
    axes = tuple(range(1, x.ndim)) if image else (-1,)
    top = 2 ** (bits - 1) - 1
    high = np.maximum(np.abs(x).max(axes, keepdims=True).astype(np.float64), 1e-5)
    tensor = torch.tensor(x, requires_grad=True)
    codes, scale = absmax(tensor, bits, axes)
    np.testing.assert_allclose(scale.numpy(), high / top, rtol=1e-6)
    assert np.array_equal(codes.detach().numpy(), np.round(codes.detach().numpy()))
    # Each code is the integer nearest to its share of the largest; nothing else is.
    assert np.abs(codes.detach().numpy() - x * top / high).max() <= 0.5 + top * 1e-6
    gradient = torch.linspace(-1, 1, x.size).view(x.shape)
    (codes * scale).backward(gradient)
    torch.testing.assert_close(tensor.grad, gradient)


def test_the_largest_of_a_row_has_the_largest_code():
    codes, _ = absmax(torch.tensor([[1.0, -4.0, 2.0], [0.5, 0.0, 0.25]]))
    assert codes.tolist() == [[32, -127, 64], [127, 0, 64]]
    codes, _ = absmax(torch.tensor([[[1.0], [-4.0]]]), 8, (1, 2))
    assert codes.flatten().tolist() == [32, -127]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=repr)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_planes_of_bits_sum_up_to_the_codes(quantizer, axis):
    w = torch.randn(6, 5, 3)
    planes, scale = weight_planes(quantizer, w, axis)
    made = quantizer(w, axis, training=False)
    read = planes.float() if quantizer.values == "unipolar" else 2 * planes.float() - 1
    summed = sum(c * plane for c, plane in zip(quantizer.planes, read, strict=True))
    assert torch.equal(summed, made.codes)
    assert (scale is None) == (made.scale is None)
    if scale is not None:
        torch.testing.assert_close(scale, made.scale)


@pytest.mark.parametrize("quantizer", [q for q in QUANTIZERS if q != Sign(stochastic=True)], ids=repr)
def test_autocast_and_bfloat16_latents_have_the_same_codes(quantizer):
    w = torch.randn(40, 50).bfloat16()
    exact = quantizer(w.float()).codes
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = quantizer(w.float()).codes
    assert cast.dtype == torch.bfloat16
    assert torch.equal(cast.float(), exact)
    kept = quantizer(w).codes  # a model whose latents are bfloat16
    assert kept.dtype == torch.bfloat16
    assert torch.equal(kept.float(), exact)


def test_a_mean_between_two_bfloat16_numbers_is_not_rounded():
    latent = torch.tensor([1.0, 1.0, 1.0, 0.996], dtype=torch.bfloat16)
    assert threshold_bits(latent).tolist() == [True, True, True, False]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=repr)
@pytest.mark.parametrize("value", [0.0, 0.7, -0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equal_latents_give_finite_codes_scales_and_gradients(quantizer, value, dtype):
    w = torch.full((4, 3), value, dtype=dtype, requires_grad=True)
    codes, scale = quantizer(w)
    assert torch.isfinite(codes).all()
    made = codes if scale is None else codes * wide(scale, w, 0).to(dtype)
    made.sum().backward()
    assert torch.isfinite(made).all()
    assert torch.isfinite(w.grad).all()


def test_zeros():
    w = torch.zeros(2, 3)
    assert (scaled_sign(w).codes == 1).all()
    assert (standardized_sign(w).codes == 1).all()
    assert (centered_sign(w).codes == -1).all()
    assert (ternary(w).codes == 0).all()
    assert (k_bit_weights(w, 3).codes == 1).all()
    assert (absmax(w).codes == 0).all()
    assert (k_bit_activations(w, 3).codes == 0).all()


def test_nan():
    w = torch.tensor([[float("nan"), 2.0, -1.0], [1.0, 2.0, 0.0]])
    assert sign(w).tolist() == [[-1, 1, -1], [1, 1, 1]]
    assert not threshold_bits(w).any()
    assert k_bit_activations(w, 1).codes.tolist() == [[0, 1, 0], [1, 1, 0]]
    codes, scale = absmax(w)
    assert codes[0].isnan().all()  # of its own row only
    assert torch.isfinite(codes[1]).all()
    assert scale.isnan().flatten().tolist() == [True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KBitWeights(0), r"\[KBitWeights\] bits=0: use 1 to 8"),
        (lambda: KBitWeights(9), r"\[KBitWeights\] bits=9: use 1 to 8"),
        (lambda: KBitWeights(2.0), r"\[KBitWeights\] bits=2.0: use 1 to 8"),
        (lambda: KBitWeights(True), r"\[KBitWeights\] bits=True: use 1 to 8"),
        (lambda: KBitActivations(0), r"\[KBitActivations\] bits=0: use 1 to 8"),
        (lambda: KBitActivations(32), r"\[KBitActivations\] bits=32: use 1 to 8"),
        (lambda: AbsMax(4), r"\[AbsMax\] bits=4: use 8 or 16"),
        (
            lambda: MeanThreshold("±1"),
            r"\[MeanThreshold\] values='±1': use 'unipolar' \(0 and 1\) or 'bipolar' \(-1 and \+1\)",
        ),
    ],
)
def test_numbers_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_words_of_packed_files_name_the_same_readings():
    assert MeanThreshold("01") == MeanThreshold("unipolar") == MeanThreshold()
    assert MeanThreshold("pm1", "output") == MeanThreshold("bipolar", "output")
    assert repr(MeanThreshold("pm1")) == "MeanThreshold(values='bipolar')"
    w = torch.randn(4, 5)
    assert torch.equal(binarize(w, "pm1"), binarize(w, "bipolar"))
    assert torch.equal(binarize(w, "01"), binarize(w, "unipolar"))
