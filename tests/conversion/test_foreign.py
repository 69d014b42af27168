"""Models of other libraries convert, train for a step, and pack or report what cannot be packed."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import onebit
from onebit import ImageTask
from onebit.errors import PackError
from onebit.packing import to_packed_model
from onebit.packing.trace import trace
from onebit.runtime import reference
from onebit.schemes import BinaryNormalized, BinaryWeightNetwork, BitNet158, XnorNet


def learns(model, report, loss):
    """One step: the loss is finite, and every latent has moved."""
    latents = {name: model.get_submodule(name).weight for name in report.converted}
    before = {name: weight.detach().clone() for name, weight in latents.items()}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    value = loss()
    value.backward()
    optimizer.step()
    assert math.isfinite(value.item())
    assert all(not torch.equal(weight, before[name]) for name, weight in latents.items())


@pytest.mark.parametrize("scheme", [BinaryNormalized(), XnorNet()])
def test_pytorchs_transformer(scheme):
    torch.manual_seed(0)
    model = nn.Transformer(12, 2, 1, 1, 16, batch_first=True)
    names = onebit.convert(
        model, scheme, where=lambda name, layer: not isinstance(layer, nn.MultiheadAttention), keep=()
    )
    onebit.convert(model, scheme, keep=())
    source, target = torch.randn(2, 5, 12), torch.randn(2, 4, 12)
    learns(model, names, lambda: (model(source, target) - target).square().mean())
    with pytest.raises(
        PackError, match="Transformer: it takes two sequences: give an onebit.TensorTask with both|cannot be followed"
    ):
        trace(model, (12,))
    with pytest.raises(PackError, match="attention over all positions cannot be packed over tokens"):
        trace(nn.Sequential(nn.Embedding(7, 12), model.encoder), (5,), tokens=True)
    model.eval()
    recorded = trace(model.encoder, (5, 12))
    with torch.no_grad():
        expected = model.encoder(source).numpy()
    y = reference.run(recorded.program, recorded.tensors, source.numpy(), "float32")
    bound = 1e-4 if isinstance(scheme, BinaryNormalized) else 0.05  # a sign near 0 may fall on its other side
    np.testing.assert_allclose(y, expected, atol=bound * np.abs(expected).max())


def timm_model(name):
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # a torchvision made for another PyTorch raises the latter
        pytest.skip(f"timm cannot be imported: {error}")
    torch.manual_seed(0)
    size = {"img_size": 32} if name.startswith("vit") else {}
    return timm.create_model(name, pretrained=False, num_classes=5, **size)


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "mobilenetv2_050", "mobilenetv3_small_050", "vit_tiny_patch16_224"]
)
def test_a_network_of_timm_packs(name):
    model = timm_model(name)
    report = onebit.convert(model, BinaryWeightNetwork())
    x = torch.randn(2, 3, 32, 32)
    learns(model, report, lambda: nn.functional.cross_entropy(model.train()(x), torch.tensor([1, 2])))
    packed = to_packed_model(model.eval(), ImageTask(tuple("abcde"), (32, 32)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    with torch.no_grad():
        expected = model(torch.tensor((pixels / 255 - 0.5) / 0.5, dtype=torch.float32).permute(0, 3, 1, 2)).numpy()
    y = reference.run(packed.program, packed.tensors, pixels, "float32")
    assert np.abs(y - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("scheme", [BinaryNormalized(), BitNet158()])
def test_gpt2_of_hugging_face(scheme):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=30, n_positions=8, n_embd=12, n_layer=2, n_head=3)
    )
    report = onebit.convert(model, scheme, keep=())
    assert {layer.kind for layer in report if layer.converted} == {"Embedding", "Conv1D", "Linear"}
    assert len(report.converted) == 2 + 2 * 4 + 1
    assert model.lm_head.weight is model.transformer.wte.weight
    tokens = torch.randint(0, 30, (2, 7))
    learns(model, report, lambda: model(tokens, labels=tokens).loss)
    names = {name for name, _ in model.named_parameters()}
    onebit.to_float(model)
    assert type(model.transformer.h[0].mlp.c_fc).__name__ == "Conv1D"
    assert names - {name for name, _ in model.named_parameters()} == set()
    assert model(tokens).logits.shape == (2, 7, 30)


@pytest.mark.parametrize("scheme", [BinaryWeightNetwork(), BinaryNormalized()])
def test_vit_of_hugging_face(scheme):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=4, num_labels=5)
    model = transformers.ViTForImageClassification(config)
    report = onebit.convert(model, scheme)
    x = torch.randn(2, 3, 16, 16)
    learns(model, report, lambda: model.train()(x, labels=torch.tensor([1, 2])).loss)
    packed = to_packed_model(model.eval(), ImageTask(tuple("abcde"), (16, 16)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    with torch.no_grad():
        scaled = torch.tensor((pixels / 255 - 0.5) / 0.5, dtype=torch.float32).permute(0, 3, 1, 2)
        expected = model(scaled).logits.numpy()
    y = reference.run(packed.program, packed.tensors, pixels, "float32")
    assert np.abs(y - expected).max() <= 1e-4 * np.abs(expected).max()


def test_bert_of_hugging_face():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=16
    )
    model = transformers.BertForMaskedLM(config)
    report = onebit.convert(model, BitNet158(), where=lambda name, layer: "embeddings" not in name)
    rows = {layer.name: layer for layer in report}
    assert rows["bert.encoder.layer.0.attention.self.query"].converted
    assert rows["bert.embeddings.position_embeddings"].reason == "`where` excludes it"
    tokens = torch.randint(1, 30, (2, 7))
    learns(model, report, lambda: model(tokens, labels=tokens).loss)
    with pytest.raises(PackError, match="BertForMaskedLM: it has attention over all positions"):
        trace(model, (7,), tokens=True)
