"""Models that torch.fx cannot trace, and those of several inputs: each converts, trains for a step, packs, and gives what PyTorch gives."""

import numpy as np
import pytest
import torch
from torch import nn

import onebit
from onebit import TensorInput, TensorTask
from onebit.errors import DataError, PackError
from onebit.packing import to_packed_model
from onebit.runtime import reference
from onebit.runtime.tensors import TensorSession
from onebit.schemes import BitNet158

TIME, TARGET = 12, 9
IDS, TYPES = TensorInput("input_ids", (TIME,), "integers"), TensorInput("token_type_ids", (TIME,), "integers")
MASK = TensorInput("attention_mask", (TIME,), "mask")
SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
         "max_position_embeddings": 32}  # fmt: skip
PIXELS = TensorInput("pixel_values", (3, 32, 32))
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 8,
}


def given_to(inputs):
    """A batch of two: the second half of the first sequence is padding, and the end of the other."""
    random = np.random.default_rng(3)
    made = {}
    for source in inputs:
        shape = (2, *source.shape)
        if source.kind == "numbers":
            made[source.name] = random.standard_normal(shape).astype(np.float32)
        elif source.kind == "integers":
            made[source.name] = random.integers(0, 2 if "type" in source.name else 40, shape)
        else:
            counts = np.ones(shape, np.int64)
            counts[0, source.shape[0] // 2 :] = counts[1, -2:] = 0
            made[source.name] = counts if source.kind == "mask" else counts == 0
    return made


def channels_last(array):
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def named(result):
    if isinstance(result, torch.Tensor):
        return {"output": result}
    return result if isinstance(result, dict) else {f"output{i or ''}": part for i, part in enumerate(result)}


def train_a_step(model, given):
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    sum(y.square().mean() for y in named(model(**given)).values() if isinstance(y, torch.Tensor)).backward()
    optimizer.step()
    model.eval()


def agrees(model, inputs, outputs=(), scheme=None, bound=1e-4):
    """Convert, train, pack and run a model; its bits must remain. Positions that a mask leaves out may be anything."""
    onebit.convert(
        model,
        scheme or BitNet158(activations=None),
        where=lambda name, layer: not isinstance(layer, nn.Embedding),
        keep=(),
    )
    given = given_to(inputs)
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    train_a_step(model, tensors)
    packed = to_packed_model(model, TensorTask(inputs, outputs))
    assert any(step.op in ("bit_linear", "bit_conv2d") for step in packed.program.steps)
    with torch.no_grad():
        expected = named(model(**tensors))
    arrays = {name: channels_last(array) for name, array in given.items()}
    found = TensorSession(packed, "float32", 1).run(arrays)
    found = found if isinstance(found, dict) else {packed.program.output: found}
    plain = reference.run_all(packed.program, packed.tensors, {k: v if v.dtype == np.int64 else v.astype(np.float32) for k, v in arrays.items()},
                              "float32")  # fmt: skip
    assert set(found) == set(plain) and (not outputs or set(found) == set(outputs))
    for name, array in found.items():
        wanted = channels_last(expected[name].numpy())
        kept = (
            given["attention_mask"] == 1 if "attention_mask" in given and array.shape[:2] == (2, TIME) else slice(None)
        )
        size = np.abs(wanted[kept]).max()
        assert np.abs(array[kept] - wanted[kept]).max() <= bound * size, name
        assert np.abs(array - plain[name]).max() <= bound * np.abs(plain[name]).max(), name
    return packed


class Translator(nn.Module):
    """nn.Transformer over two texts: the source has padding, and the target sees what comes before."""

    def __init__(self, **options):
        super().__init__()
        self.transformer = nn.Transformer(16, 2, 2, 2, 24, batch_first=True, **options)
        self.embedding, self.head = nn.Embedding(40, 16), nn.Linear(16, 7)

    def forward(self, source, target, padding=None):
        future = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        y = self.transformer(self.embedding(source), self.embedding(target), tgt_mask=future, src_key_padding_mask=padding,
                             memory_key_padding_mask=padding, tgt_is_causal=True)  # fmt: skip
        return self.head(y)


TEXTS = (TensorInput("source", (TIME,), "integers"), TensorInput("target", (TARGET,), "integers"))


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "activation": "gelu"}])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pytorchs_transformer_with_padding(options):
    torch.manual_seed(0)
    packed = agrees(Translator(**options), (*TEXTS, TensorInput("padding", (TIME,), "padding")))
    attributes = [step.attributes for step in packed.program.steps if step.op == "full_attention"]
    assert len(attributes) == 6 and sum(a.get("causal", False) for a in attributes) == 2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pytorchs_transformer_without_masks():
    torch.manual_seed(0)
    agrees(Translator(), TEXTS)


TOKENS = {
    "BertModel": ("BertConfig", SMALL, (IDS, TYPES, MASK)),
    "BertForMaskedLM": ("BertConfig", SMALL, (IDS, MASK)),
    "BertForSequenceClassification": ("BertConfig", {**SMALL, "attn_implementation": "eager"}, (IDS, TYPES, MASK)),
    "DistilBertModel": ("DistilBertConfig", {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24,
                                             "max_position_embeddings": 32}, (IDS, MASK)),
    "AlbertModel": ("AlbertConfig", {**SMALL, "embedding_size": 8}, (IDS, TYPES, MASK)),
    "ElectraModel": ("ElectraConfig", {**SMALL, "embedding_size": 8}, (IDS, TYPES, MASK)),
}  # fmt: skip


@pytest.mark.parametrize("name", TOKENS)
def test_encoders_of_text_of_hugging_face(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config, options, inputs = TOKENS[name]
    agrees(getattr(transformers, name)(getattr(transformers, config)(**options)), inputs)


PICTURES = {
    "DeiTModel": ("DeiTConfig", VIT),
    "BeitModel": ("BeitConfig", {**VIT, "use_relative_position_bias": True}),
    "Dinov2Model": ("Dinov2Config", VIT),
    "ConvNextForImageClassification": ("ConvNextConfig", {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2}),
    "ResNetForImageClassification": ("ResNetConfig", {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}),
    "SegformerForSemanticSegmentation": ("SegformerConfig", {
        "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16], "patch_sizes": [7, 3], "strides": [4, 2],
        "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 8}),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_models_of_images_of_hugging_face(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config, options = PICTURES[name]
    packed = agrees(getattr(transformers, name)(getattr(transformers, config)(**options)), (PIXELS,))
    assert (
        "bias" in {role for step in packed.program.steps for role in step.tensors if step.op == "full_attention"}
    ) == (name == "BeitModel")


def test_whispers_encoder():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_ffn_dim=24, num_mel_bins=8, max_source_positions=10, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    agrees(transformers.WhisperModel(config).get_encoder(), (TensorInput("input_features", (8, 20)),))


class Two(nn.Module):
    """Two outputs of numbers and classes."""

    def __init__(self):
        super().__init__()
        self.classes, self.dense = nn.Embedding(4, 6), nn.Linear(5, 6)

    def forward(self, x, kind):
        y = self.dense(x) + self.classes(kind)
        return y, y.relu()


TWO = (TensorInput("x", (3, 5)), TensorInput("kind", (3,), "integers"))


def test_a_file_of_several_inputs_and_outputs(tmp_path):
    torch.manual_seed(0)
    model = Two().eval()
    report = onebit.pack(model, tmp_path / "two.onebit", TensorTask(TWO, ("sum", "positive")))
    assert report.file_bytes == (tmp_path / "two.onebit").stat().st_size
    session = onebit.load(tmp_path / "two.onebit", threads=1)
    assert [source.name for source in session.inputs] == ["x", "kind"] and session.outputs == {
        "sum": (3, 6),
        "positive": (3, 6),
    }
    x, kind = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32), np.arange(12).reshape(4, 3) % 4
    with torch.no_grad():
        expected = model(torch.from_numpy(x), torch.from_numpy(kind))
    for found in (session.run(x, kind), session.run({"kind": kind, "x": x}), session(x, kind)):
        np.testing.assert_allclose(found["sum"], expected[0].numpy(), atol=1e-6)
        np.testing.assert_allclose(found["positive"], expected[1].numpy(), atol=1e-6)
    for arrays, words in (
        ((x,), r"1 arrays: give x, kind"),
        (({"x": x},), "'kind' is missing"),
        (({"x": x, "kind": kind, "z": x},), "'z' is not an input"),
        ((x[:, :2], kind), r"'x' has shape \(4, 2, 5\): give \(n, 3, 5\)"),
        ((x, x[:, :, 0]), "'kind' is float32: give integers"),
        ((x[:2], kind), r"batches of \[2, 4\] examples"),
        ((x, kind - 1), "'kind' holds -1 to 2: give integers from 0"),
        ((x, kind + 1), r"the input 'kind' holds 4\.0: needs integers from 0 to 3"),
    ):
        with pytest.raises(DataError, match=words):
            session.run(*arrays)
    for load in (onebit.runtime.load_image_session, onebit.runtime.load_text_session):
        with pytest.raises(onebit.OnebitError, match="takes tensors"):
            load(tmp_path / "two.onebit")


def test_integers_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3)).eval()
    packed = to_packed_model(model, TensorTask((TensorInput("input", (6,), "integers"),)))
    ids = np.arange(12).reshape(2, 6) % 5
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).numpy()
    np.testing.assert_allclose(TensorSession(packed, "float32", 1).run(ids), expected, atol=1e-6)


def test_an_output_of_a_dictionary_is_chosen():
    model = module(lambda x: {"a": x * 2, "b": x + 1})
    packed = to_packed_model(model, TensorTask((TensorInput("x", (3,)),), ("b",)))
    assert packed.program.outputs == ("b",)
    with pytest.raises(PackError, match="gives no tensor 'c': it gives a, b"):
        to_packed_model(model, TensorTask((TensorInput("x", (3,)),), ("c",)))


class Written(nn.Module):
    """A model of one function."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def module(forward):
    return Written(forward).eval()


X = (TensorInput("x", (6, 4)),)


@pytest.mark.parametrize(
    ("forward", "inputs", "words"),
    [
        (lambda x: x + torch.rand(4), X, "'rand' draws random numbers in use"),
        (lambda x: nn.functional.dropout(x, 0.5), X, "'dropout' draws random numbers in use"),
        (lambda x: x if x.sum() > 0 else -x, X, "sum|reads numbers that depend on its input"),
        (lambda x: x if bool((x[:, 0, 0].relu() + 1)[0]) else -x, X, "cannot be packed"),
        (lambda x: torch.linalg.inv(x @ x.mT), X, "can be packed only with a parameter, or as an attention"),
        (lambda x: torch.cumsum(x, 1), X, "the function 'cumsum' cannot be packed"),
        (lambda x: torch.zeros(3), X, "returns nothing that depends on its input"),
        (lambda x: "text", X, "the model returns str"),
        (lambda y: y, X, "its forward has no argument 'x': it takes y"),
        (
            lambda x, m: x * m[:, :, None],
            (*X, TensorInput("m", (6,), "mask")),
            "with what a mask gives cannot be packed: only attentions take masks",
        ),
        (lambda x, z: x + 1, (*X, TensorInput("z", (2,))), "nothing reads its input 'z': leave it out"),
        (lambda x: torch.ones(2, 3) @ torch.ones(4), X, "cannot be followed"),
    ],
)
def test_what_cannot_be_followed_is_named(forward, inputs, words):
    with pytest.raises(PackError, match=words) as caught:
        to_packed_model(module(forward), TensorTask(inputs))
    assert "\n" not in str(caught.value)


def test_an_error_names_the_layer_and_the_function():
    model = nn.Sequential(nn.Linear(4, 4), Written(lambda x: torch.cumsum(x, 1)))
    with pytest.raises(PackError, match=r"^\[pack\] 1: the function 'cumsum' cannot be packed"):
        to_packed_model(model.eval(), TensorTask((TensorInput("input", (6, 4)),)))


def test_masks_that_no_step_has():
    q = torch.randn(1, 1, 6, 4)
    attend = nn.functional.scaled_dot_product_attention
    backwards = torch.ones(6, 6, dtype=torch.bool).triu()
    with pytest.raises(PackError, match="an attention with this mask cannot be packed"):
        to_packed_model(module(lambda x: attend(x[:, None], x[:, None], x[:, None], backwards)), TensorTask(X))
    of_heads = torch.ones(1, 2, 6, 6, dtype=torch.bool).tril()
    of_heads[:, 1] = True
    with pytest.raises(PackError, match="differs between its heads"):
        to_packed_model(module(lambda x: attend(*[x.view(-1, 6, 2, 2).transpose(1, 2)] * 3, of_heads)), TensorTask(X))
    with pytest.raises(PackError, match="attention"):
        to_packed_model(module(lambda x: attend(x[:, None], x[:, None], q.expand(5, 1, 6, 4))), TensorTask(X))


def test_weights_that_layers_share_stay_shared():
    torch.manual_seed(0)
    dense = onebit.nn.BinaryLinear(4, 4)
    model = nn.Sequential(dense, nn.ReLU(), dense)
    packed = to_packed_model(model.eval(), TensorTask((TensorInput("input", (4,)),)))
    assert len({step.tensors["weight"] for step in packed.program.steps if step.op == "bit_linear"}) == 1


def test_a_bias_and_a_causal_mask_in_the_engine():
    torch.manual_seed(0)
    bias = torch.randn(2, 6, 6)
    attend = nn.functional.scaled_dot_product_attention
    future = torch.full((6, 6), -torch.inf).triu(1)

    def forward(x):
        heads = x.view(-1, 6, 2, 2).transpose(1, 2)
        return attend(heads, heads, heads, bias + future).transpose(1, 2).flatten(2)

    packed = to_packed_model(module(forward), TensorTask(X))
    (step,) = (step for step in packed.program.steps if step.op == "full_attention")
    assert step.attributes["causal"] and packed.tensors[step.tensors["bias"]].shape == (2, 6, 6)
    x = np.random.default_rng(0).standard_normal((3, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(
        TensorSession(packed, "float32", 1).run(x), forward(torch.from_numpy(x)).numpy(), atol=1e-6
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TensorInput("a b", (3,)), "name='a b'"),
        (lambda: TensorInput("a", ()), r"shape=\(\): needs 1 to 4 integers"),
        (lambda: TensorInput("a", (3, 0)), "needs 1 to 4 integers from 1"),
        (lambda: TensorInput("a", (3,), "words"), "kind='words': use one of 'numbers', 'integers', 'mask', 'padding'"),
        (lambda: TensorInput("a", (3, 2), "mask"), "needs one axis"),
        (lambda: TensorTask(()), "give a tuple of onebit.TensorInput"),
        (lambda: TensorTask(("x",)), "an input of type str"),
        (lambda: TensorTask((IDS, IDS)), "inputs name 'input_ids' twice"),
        (lambda: TensorTask((IDS,), ("a", "a")), "outputs name 'a' twice"),
        (lambda: TensorTask((IDS,), "a"), "give a tuple of names"),
    ],
)
def test_a_task_that_cannot_be(make, words):
    with pytest.raises(DataError, match=words):
        make()
