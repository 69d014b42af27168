"""The ops of today's language models together: a small random Qwen3 as a program has the logits of transformers' at every position."""

import numpy as np
import pytest
import torch

from onebit._engine import Decoder, isas
from onebit.program import Program, Step

WIDTH, MIDDLE, LAYERS, HEADS, KV_HEADS, FEATURES, TOKENS = 64, 96, 2, 4, 2, 32, 50
EPS, BASE = 1e-6, 1e6
YARN = {"factor": 4.0, "beta_fast": 32, "beta_slow": 1}


class Writer:
    """Writes steps; `weights` are those of the model."""

    def __init__(self, weights):
        self.weights = weights
        self.steps, self.tensors = [], {}

    def step(self, op, *inputs, tensors=None, **attributes):
        self.tensors |= tensors or {}
        names = {("scale" if op == "scale_shift" else "weight"): name for name in tensors or {}}
        self.steps.append(Step(op, inputs, f"v{len(self.steps)}", attributes, names))
        return self.steps[-1].output

    def linear(self, x, name):
        weight = self.weights[f"{name}.weight"]
        outputs, inputs = weight.shape
        return self.step("linear", x, tensors={name: weight}, in_features=inputs, out_features=outputs)

    def norm(self, x, name, groups=1):
        y = self.step("rms_normalize", x, eps=EPS, groups=groups)
        return self.step("scale_shift", y, tensors={name: np.tile(self.weights[f"{name}.weight"], groups)})

    def attention(self, x, name):
        scaling = {"kind": "yarn", "original_context": 128, **YARN}
        q = self.norm(self.linear(x, f"{name}.q_proj"), f"{name}.q_norm", HEADS)
        k = self.norm(self.linear(x, f"{name}.k_proj"), f"{name}.k_norm", KV_HEADS)
        q = self.step("rotary", q, heads=HEADS, base=BASE, scaling=scaling)
        k = self.step("rotary", k, heads=KV_HEADS, base=BASE, scaling=scaling)
        y = self.step("attention", q, k, self.linear(x, f"{name}.v_proj"), heads=HEADS, kv_heads=KV_HEADS)
        return self.linear(y, f"{name}.o_proj")

    def mlp(self, x, name):
        gate = self.step("silu", self.linear(x, f"{name}.gate_proj"))
        return self.linear(self.step("multiply", gate, self.linear(x, f"{name}.up_proj")), f"{name}.down_proj")

    def program(self):
        table = self.weights["model.embed_tokens.weight"]
        x = self.step("embedding", "t", tensors={"table": table}, rows=TOKENS, features=WIDTH, of="token")
        for layer in range(LAYERS):
            name = f"model.layers.{layer}"
            x = self.step("add", x, self.attention(self.norm(x, f"{name}.input_layernorm"), f"{name}.self_attn"))
            x = self.step("add", x, self.mlp(self.norm(x, f"{name}.post_attention_layernorm"), f"{name}.mlp"))
        y = self.linear(self.norm(x, "model.norm"), "lm_head")
        return Program("t", (512,), tuple(self.steps), y, tokens=True)


def test_a_random_qwen3_has_the_logits_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3Config(
        hidden_size=WIDTH, intermediate_size=MIDDLE, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
        head_dim=FEATURES, vocab_size=TOKENS, max_position_embeddings=512, rms_norm_eps=EPS, tie_word_embeddings=False,
        rope_parameters={"rope_type": "yarn", "rope_theta": BASE, "original_max_position_embeddings": 128, **YARN},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Qwen3ForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, float("norm" in name), 0.3 if "norm" in name else 0.15)
    text = np.random.default_rng(0).integers(0, TOKENS, 300).astype(np.int32)
    with torch.no_grad():
        expected = model(torch.tensor(text[None].astype(np.int64))).logits[0].numpy()
    writer = Writer({name: weight.numpy() for name, weight in model.state_dict().items()})
    program = writer.program().to_json()
    for isa in isas():
        if not isa["supported"]:
            continue
        decoder = Decoder(program, writer.tensors, "float32", 1, isa["name"])
        sequence = decoder.open()
        # A prompt, a token, and a prompt that goes on.
        parts = [decoder.extend([sequence], [len(part)], part, all=True) for part in np.split(text, [200, 201])]
        assert np.abs(np.concatenate(parts) - expected).max() < 1e-5 * np.abs(expected).max()
