"""Why a model cannot be packed, where its kind alone tells."""

from __future__ import annotations

from torch import nn

from onebit.packing.handlers import is_foreign

NO_ATTENTION = (
    "it has attention over all positions of tokens, and a program has only that in which each sees those before it: "
    "give an onebit.TensorTask with its inputs, or use onebit.nn.BinaryAttention"
)


def what_lacks(model: nn.Module) -> str:
    """The reason; "" where none is seen."""
    for module in model.modules():
        if isinstance(module, nn.Transformer):
            return "it takes two sequences: give an onebit.TensorTask with both"
        if hasattr(module, "config") and hasattr(module, "main_input_name"):  # a model of Hugging Face's
            return "" if is_foreign(type(module)) else _what_lacks_of_transformers(module)
    return ""


def _what_lacks_of_transformers(model: nn.Module) -> str:
    name = type(model).__name__
    decoder = getattr(model.config, "is_decoder", False) or "CausalLM" in name or "LMHead" in name
    if not decoder and model.main_input_name == "input_ids":
        return NO_ATTENTION
    return f"{name}, whose forward cannot be traced: of Hugging Face's models GPT2LMHeadModel and ViTForImageClassification can be packed"
