"""Write known_logits.npz: the logits of the small random models of `random_models.py`, as transformers computes them in float32.

Run it where `transformers` and PyTorch are installed: `TORCHDYNAMO_DISABLE=1 python tests/importing/make_known_logits.py`.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from random_models import CONFIGS, VOCABULARY, WIDE, config, is_packed, ternary, weights

TOKENS = np.random.default_rng(20).integers(0, VOCABULARY, 40)
KEPT = 6  # of the last positions


def model_of(name):
    """The model of transformers, with its own layers for ternary weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.integrations import bitnet

    values = config(name)
    quantization = values.pop("quantization_config", None)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(__import__("json").dumps(values))
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).float().eval()
    floats = {part: torch.from_numpy(weight) for part, weight in weights(name).items()}
    missing = set(model.load_state_dict(floats, strict=False).missing_keys)
    assert missing <= {"lm_head.weight"}, missing
    if values.get("tie_word_embeddings"):
        model.tie_weights()
    for part, layer in list(model.named_modules()):
        if quantization is None or not isinstance(layer, torch.nn.Linear) or part == "lm_head":
            continue
        sizes = (layer.in_features, layer.out_features)
        if quantization["quantization_mode"] == "online":
            new = bitnet.AutoBitLinear(*sizes, bias=False, dtype=torch.float32, online_quant=True)
            new.weight.data = layer.weight.data
        else:
            assert is_packed(f"{part}.weight", config(name))
            codes, scale = ternary(layer.weight.data.numpy())
            new = ternary_layer(quantization["linear_class"], sizes, torch.from_numpy(codes), float(scale))
        model.set_submodule(part, new)
    return model


def ternary_layer(kind, sizes, codes, scale):
    import torch
    from transformers.integrations import bitnet

    if kind == "bitlinear":
        layer = bitnet.BitLinear(*sizes, False, dtype=torch.float32)
        layer.weight, layer.weight_scale = bitnet.pack_weights(codes.float()), torch.tensor([1 / scale])
        return layer
    layer = bitnet.AutoBitLinear(*sizes, bias=False, dtype=torch.float32)
    layer.weight.data, layer.weight_scale = codes.float(), torch.tensor([scale])
    return layer


def main():
    import torch

    known = {"tokens": TOKENS.astype(np.int32)}
    for name in (name for name in CONFIGS if not WIDE.items() <= CONFIGS[name].items()):
        with torch.no_grad():
            known[name] = model_of(name)(torch.from_numpy(TOKENS)[None]).logits[0, -KEPT:].numpy()
        print(name, known[name].std())
    np.savez_compressed(Path(__file__).with_name("known_logits.npz"), **known)


if __name__ == "__main__":
    main()
