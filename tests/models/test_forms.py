"""The forms of a decoder: what each is made of, and that each packs to what was trained."""

import pytest
import torch
from packed_decoder import pack_and_compare, scattered

import onebit
from onebit.models import language_decoder
from onebit.models.forms import FORMS
from onebit.nn import BinaryEmbedding, BinaryLinear, Normalize
from onebit.schemes import BinaryConnect, BinaryNormalized, BinaryWeightNetwork, BitNet158, NormFree, PureBits

SMALL = {"vocabulary": 300, "context": 12, "blocks": 2, "features": 16, "heads": 2, "head": (24,)}


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({}, "best"),
        ({"scheme": BitNet158()}, "best"),
        ({"scheme": BinaryNormalized()}, "paper"),
        ({"binary": False}, "best"),
    ],
)
def test_best_is_the_default_and_the_papers_scheme_has_its_form(options, form):
    torch.manual_seed(0)
    plain = language_decoder(SMALL, **options).state_dict()
    torch.manual_seed(0)
    named = language_decoder(SMALL, form=form, **options).state_dict()
    assert list(plain) == list(named)
    assert all(torch.equal(value, named[name]) for name, value in plain.items())


def test_the_papers_form_is_its_letter():
    torch.manual_seed(0)
    paper = language_decoder(SMALL, form="paper")
    torch.manual_seed(0)
    options = {"residual_scale": 1.0, "embedding_widening": 1, "pre_norm": False, "scheme": BinaryNormalized()}
    named = language_decoder(SMALL, form="paper", **options).state_dict()
    assert all(torch.equal(named[name], value) for name, value in paper.state_dict().items())
    assert {m.scheme for m in paper.modules() if isinstance(m, BinaryLinear)} == {BinaryNormalized()}
    assert paper.head_norm is None


def test_best_is_a_float_decoder_converted_to_scaled_signs():
    best = scattered(language_decoder(SMALL, form="best"))
    made = language_decoder(SMALL, binary=False, residual_scale=0.35, pre_norm=True, embedding_widening=2)
    onebit.convert(made, BinaryWeightNetwork(normalize=None), keep=())
    made.load_state_dict(best.state_dict())
    tokens = torch.randint(0, 300, (2, 12))
    with torch.inference_mode():
        torch.testing.assert_close(best(tokens), made.eval()(tokens), rtol=0, atol=0)


def test_all_bits_has_no_parameter_that_is_not_a_bit():
    model = language_decoder(SMALL, form="all-bits")
    layers = [m for m in model.modules() if isinstance(m, (BinaryLinear, BinaryEmbedding))]
    assert {id(p) for layer in layers for p in layer.parameters()} == {id(p) for p in model.parameters()}
    assert all(layer.scheme.bias == "bits" and layer.bias is None for layer in layers)
    assert any(isinstance(m, Normalize) for m in model.modules())


def test_all_bits_keeps_the_deviation_of_what_it_is_given():
    torch.manual_seed(0)
    model = language_decoder({**SMALL, "features": 256, "blocks": 3, "head": (256,)}, form="all-bits").eval()
    with torch.inference_mode():
        logits = model(torch.randint(0, 300, (4, 12)))
    assert 1 < logits.std() < 6  # the logits are of about unit deviation times 3


@pytest.mark.parametrize("form", FORMS)
def test_a_form_trains_and_keeps_the_future_out(form):
    torch.manual_seed(0)
    model = language_decoder(SMALL, form=form)
    tokens = torch.randint(0, 300, (4, 12))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    model.eval()
    changed = tokens.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 300
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens)[:, :7], model(changed)[:, :7], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_packed_form_computes_what_pytorch_does(form, task, tmp_path):
    model = scattered(language_decoder(SMALL, form=form))
    report, *_ = pack_and_compare(model, tmp_path / "a.onebit", task)
    # Which form keeps floats in its file.
    assert bool(report.kept_float) == (form == "best")
    assert (report.bit_parameters == report.parameters) == (form != "best")


def test_a_scheme_and_options_of_ones_own_go_before_the_forms():
    model = language_decoder(SMALL, form="all-bits", scheme=BinaryNormalized(), pre_norm=False, embedding_widening=1)
    assert {m.scheme.normalize for m in model.modules() if isinstance(m, BinaryLinear)} == {"channel"}
    assert model.head_norm is None
    assert model.logit_scale == 3.0


@pytest.mark.parametrize(
    "scheme", [BinaryWeightNetwork(), BitNet158(), NormFree(), BinaryNormalized(normalize="batch")]
)
def test_a_form_of_bits_alone_refuses_a_scheme_that_keeps_floats(scheme):
    message = r"\[language_decoder\] form='all-bits' cannot take scheme=.*, which keeps floats .*: use PureBits\(\)"
    with pytest.raises(ValueError, match=message):
        language_decoder(SMALL, form="all-bits", scheme=scheme)


@pytest.mark.parametrize("scheme", [PureBits(latent_spread=2.0), BinaryConnect(), BinaryNormalized()])
def test_a_form_of_bits_alone_takes_other_schemes_of_bits(scheme):
    model = language_decoder(SMALL, form="all-bits", scheme=scheme)
    tables = {m.scheme.weights for m in model.modules() if isinstance(m, BinaryEmbedding)}
    assert tables == {FORMS["all-bits"].tables.weights if isinstance(scheme, PureBits) else scheme.weights}


@pytest.mark.parametrize("form", ["worst", ["best"], 3])
def test_an_unknown_form_is_refused(form):
    with pytest.raises(ValueError, match=r"\[language_decoder\] form=.*: use paper, best, all-bits"):
        language_decoder(SMALL, form=form)
