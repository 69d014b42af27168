"""Why a model cannot be packed, where its kind alone tells."""

from __future__ import annotations

from torch import nn

from onebit.nn import BinaryMultiheadAttention
from onebit.packing.handlers import is_foreign

NO_ATTENTION = (
    "it has attention over all positions, and a program has only that over tokens in which each sees those before it: "
    "use onebit.nn.BinaryAttention, or a network of convolutions"
)


def what_lacks(model: nn.Module) -> str:
    """The reason; "" where none is seen."""
    for module in model.modules():
        if isinstance(module, nn.Transformer):
            return "it takes two sequences, and a program has one input"
        if isinstance(module, (nn.MultiheadAttention, BinaryMultiheadAttention)):
            return NO_ATTENTION
        if hasattr(module, "config") and hasattr(module, "main_input_name"):  # a model of Hugging Face's
            return "" if is_foreign(type(module)) else _what_lacks_of_transformers(module)
    return ""


def _what_lacks_of_transformers(model: nn.Module) -> str:
    name = type(model).__name__
    decoder = getattr(model.config, "is_decoder", False) or "CausalLM" in name or "LMHead" in name
    if not decoder:
        return NO_ATTENTION
    return f"{name}, whose forward cannot be traced: of Hugging Face's models GPT2LMHeadModel can be packed"
