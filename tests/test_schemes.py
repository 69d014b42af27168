"""The schemes as values: their parts as in the sources, their errors, and their text form."""

import dataclasses
import pickle
from pathlib import Path

import pytest

from onebit.quantizers import AbsMax, KBitActivations, KBitWeights, MeanThreshold, ScaledSign, Sign, Ternary
from onebit.quantizers.gradients import CLIPPED, IDENTITY, Clipped, Polynomial
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
    NormFree,
    ReActNet,
    Scheme,
    XnorNet,
    parse_scheme,
)

PAGE = Path(__file__).parents[1] / "docs" / "schemes.md"


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_is_a_value_with_a_name(name):
    scheme = SCHEMES[name]()
    assert repr(scheme) == f"{name}()"
    assert parse_scheme(name) == parse_scheme(f" {name}() ") == scheme == pickle.loads(pickle.dumps(scheme))
    assert hash(scheme) == hash(SCHEMES[name]())
    with pytest.raises(dataclasses.FrozenInstanceError):
        scheme.norm = None


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_has_its_section(name):
    assert f"\n## {name}\n" in PAGE.read_text(encoding="utf-8")


def test_gradients_of_weights_are_the_sources():
    # BinaryConnect and BinaryNet: W <- clip(W - learning rate * dL/dW_b); the derivative of the sign is nowhere in it.
    for scheme in (BinaryConnect(), BinaryNet()):
        assert scheme.weights == Sign(IDENTITY)
        assert scheme.clip_latents == 1
    # XNOR-Net: 1/n + alpha [|w| <= 1]; Bi-Real Net's and ReActNet's code: [|w| <= 1].
    assert BinaryWeightNetwork().weights == XnorNet().weights == ScaledSign("output", CLIPPED, share=True)
    assert BiRealNet().weights == ReActNet().weights == ScaledSign("output", CLIPPED, share=False)


def test_gradients_of_activations_are_the_sources():
    assert BinaryNet().activations == XnorNet().activations == Sign(Clipped(1.0))
    for scheme in (BiRealNet(), ReActNet(), NormFree()):
        assert scheme.activations == Sign(Polynomial())
        assert scheme.binary_activations
    assert not DoReFa(activations=1).binary_activations  # 0 and 1, not signs


def test_networks_without_batch_normalisation():
    assert [n for n in SCHEMES if SCHEMES[n]().norm is None] == [
        "BinaryNormalized",
        "Bipolar",
        "Nested",
        "PureBits",
        "NormFree",
        "BitNet",
        "BitNet158",
    ]
    assert BinaryNormalized().normalize == "channel"
    assert BitNet().input_normalize
    assert BitNet158().input_normalize
    assert (NormFree().gain, NormFree().gradient_clipping) == (True, 0.02)


def test_dorefa_takes_numbers_of_bits():
    scheme = DoReFa(weights=2, activations=4, gradients=6)
    assert (scheme.weights, scheme.activations, scheme.gradients) == (KBitWeights(2), KBitActivations(4), 6)
    scheme = DoReFa(1, 32, 32)
    assert (scheme.weights, scheme.activations, scheme.gradients) == (KBitWeights(1), None, None)
    assert dataclasses.replace(DoReFa(3, 5), norm=None).activations == KBitActivations(5)
    for scheme in (DoReFa(3), DoReFa(activations=32), DoReFa(2, 8, 4), DoReFa(activations=AbsMax(8))):
        assert "KBit" not in repr(scheme)
    assert repr(DoReFa(2, 8, 4)) == "DoReFa(weights=2, activations=8, gradients=4)"
    assert parse_scheme(repr(DoReFa(2, 8, 4))) == DoReFa(2, 8, 4)
    assert parse_scheme(repr(DoReFa(activations=32))) == DoReFa(activations=None)


def test_a_representation_names_what_differs():
    scheme = BinaryNet(norm=None, eps=0.01)
    assert repr(scheme) == "BinaryNet(eps=0.01, norm=None)"
    assert parse_scheme(repr(scheme)) == scheme


def test_parse_scheme_reads_plain_options():
    assert parse_scheme("DoReFa(weights=1, activations=4)") == DoReFa(1, 4)
    assert parse_scheme("XnorNet(input_scale=False, norm='group')") == XnorNet(input_scale=False, norm="group")
    assert parse_scheme("BinaryConnect(clip_latents=None)") == BinaryConnect(clip_latents=None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "BinaryNet(",
        "BinaryNet(1)",
        "BinaryNet(norm=None, norm='batch')",
        "BinaryNet()()",
        "onebit.BinaryNet",
        "3",
        "BinaryNet(eps=1 + x)",
        "BinaryNet(weights=Sign())",
        "BinaryNet(weights={[]: 1})",
        "__import__('os').system('true')",
        "BinaryNet(\0)",
        "BinaryNet(eps=" + "(" * 500 + ")",
        "-" * 100_000 + "1",
    ],
)
def test_what_is_no_scheme_is_said_to_be_none(text):
    with pytest.raises(ValueError, match=r"write a name, or Name\(option=value, ...\)"):
        parse_scheme(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("XnorNets", r"scheme='XnorNets': use BinaryNormalized, Bipolar, Nested, PureBits, .*BitNet158"),
        ("Scheme", r"scheme='Scheme': use BinaryNormalized"),
        ("BinaryNet(bits=2)", r"BinaryNet has no option 'bits': use weights, activations, gradients"),
        ("DoReFa(weights=9)", r"\[KBitWeights\] bits=9: use 1 to 8"),
        ("DoReFa(weights=32)", r"\[KBitWeights\] bits=32: use 1 to 8"),
        ("DoReFa(weights='1')", r"\[DoReFa\] weights='1': use a quantizer of weights from onebit.quantizers"),
        ("DoReFa(gradients=9)", r"\[DoReFa\] gradients=9: use 1 to 8, or None"),
        ("DoReFa(gradients=2.5)", r"\[DoReFa\] gradients=2.5: use 1 to 8, or None"),
        ("BitNet(activations=8)", r"\[BitNet\] activations=8: use Sign, KBitActivations, AbsMax or None"),
        ("BinaryNet(normalize='layer')", r"\[BinaryNet\] normalize='layer': use 'channel', 'example', 'batch' or None"),
        ("BinaryNet(bias='none')", r"\[BinaryNet\] bias='none': use 'bits' or 'float'"),
        ("BinaryNet(norm='layer')", r"\[BinaryNet\] norm='layer': use 'batch', 'group' or None"),
        ("BinaryNet(nonlinearity='tanh')", r"nonlinearity='tanh': use 'relu', 'hardtanh', 'rprelu' or None"),
        ("BinaryNet(eps=0)", r"\[BinaryNet\] eps=0: use a number above 0"),
        ("BinaryNet(eps=None)", r"\[BinaryNet\] eps=None: use a number above 0"),
        ("BinaryNet(clip_latents=-1)", r"\[BinaryNet\] clip_latents=-1: use a number above 0"),
        ("NormFree(gradient_clipping='a')", r"\[NormFree\] gradient_clipping='a': use a number above 0"),
        ("BitNet(eps=1e999)", r"\[BitNet\] eps=inf: use a number above 0"),
        ("NormFree(branch_scale='a')", r"\[NormFree\] branch_scale='a': use a number above 0"),
        ("NormFree(branch_scale=-1)", r"\[NormFree\] branch_scale=-1: use a number above 0"),
        ("NormFree(branch_scale=None)", r"\[NormFree\] branch_scale=None: use a number above 0"),
        ("NormFree(gain=1)", r"\[NormFree\] gain=1: use True or False"),
        ("BiRealNet(shortcuts=0)", r"\[BiRealNet\] shortcuts=0: use 1, 2, ..."),
        ("BinaryConnect(input_shift=True)", r"\[BinaryConnect\] input_shift and input_scale belong to activations"),
        ("DoReFa(input_scale=True)", r"\[DoReFa\] input_shift and input_scale belong to activations that are signs"),
    ],
)
def test_parts_that_do_not_go_together_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_scheme(text)


def test_stochastic_signs_are_for_weights():
    assert Scheme(Sign(stochastic=True)).weights.stochastic
    with pytest.raises(ValueError, match=r"\[Scheme\] stochastic signs are for weights: use activations=Sign\(\)"):
        Scheme(activations=Sign(stochastic=True))


def test_parts_compose():
    scheme = Scheme(Ternary(), AbsMax(16), normalize="channel", bias="bits")
    assert repr(scheme).startswith("Scheme(weights=Ternary(), activations=AbsMax(bits=16), bias='bits'")
    assert Scheme().weights == MeanThreshold("unipolar")


def test_the_best_measured_method_is_the_papers_with_four_parts_of_its_own():
    parts = {"weights": MeanThreshold("bipolar", "output"), "normalize": "batch", "latent_spread": 0.25}
    composed = BinaryNormalized(**parts)
    assert dataclasses.asdict(Bipolar()) == dataclasses.asdict(composed)
    assert Bipolar("unipolar").weights == MeanThreshold("unipolar", "output")
    assert repr(Bipolar(normalize="channel")) == "Bipolar(normalize='channel')"
    assert parse_scheme("Bipolar(weights='pm1')") == Bipolar()
