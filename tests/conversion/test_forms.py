"""Conversion by the name of a form: the schemes of dense layers and of tables, and whether norms stay learned."""

import pytest
import torch
from torch import nn

import onebit
from onebit.models.forms import FORMS
from onebit.nn import BinaryEmbedding, BinaryLinear
from onebit.schemes import BinaryNet


class Decoder(nn.Module):
    """A small transformer with norms of two kinds."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=True)
        self.norm = nn.RMSNorm(16, 1e-5)
        self.head = nn.Linear(16, 30)

    def forward(self, tokens):
        return self.head(self.norm(self.block(self.table(tokens))))


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_the_schemes_of_layers_and_tables_and_what_norms_learn(name):
    torch.manual_seed(0)
    model, form = Decoder(), FORMS[name]
    report = onebit.convert(model, form=name, keep=())
    assert {m.scheme.weights for m in model.modules() if isinstance(m, BinaryLinear)} == {form.scheme.weights}
    assert model.table.scheme.weights == (form.tables or form.scheme).weights
    assert isinstance(model.table, BinaryEmbedding)
    norms = [m for m in model.modules() if isinstance(m, (nn.LayerNorm, nn.RMSNorm))]
    assert [norm.weight is not None for norm in norms] == 3 * [name == "best"]
    assert [norm.elementwise_affine for norm in norms] == 3 * [name == "best"]
    assert f"with form {name!r}" in str(report)
    assert ("taken out" in str(report)) == (name != "best")
    bits = {id(p) for m in model.modules() if isinstance(m, (BinaryLinear, BinaryEmbedding)) for p in m.parameters()}
    assert (bits == {id(p) for p in model.parameters()}) == (name != "best")
    tokens = torch.randint(0, 30, (2, 5))
    with torch.inference_mode():
        assert model.eval()(tokens).isfinite().all()
    model.train()(tokens).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_norms_that_are_kept_apart_stay_learned():
    model = Decoder()
    onebit.convert(model, form="all-bits", keep=(), where=lambda name, layer: name != "norm")
    assert model.norm.weight is not None
    assert model.block.norm1.weight is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"form": "worst"}, r"\[convert\] form='worst': use paper, best, all-bits"),
        (
            {"form": "best", "scheme": BinaryNet()},
            r"\[convert\] form='best' and scheme=BinaryNet\(.*\): give one of them",
        ),
    ],
)
def test_wrong_forms_are_named_before_anything_is_converted(keys, message):
    model = Decoder()
    with pytest.raises(ValueError, match=message):
        onebit.convert(model, **keys)
    assert type(model.table) is nn.Embedding
