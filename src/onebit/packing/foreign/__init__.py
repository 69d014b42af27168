"""Layers and models of other libraries, recognised by the names of their types. Importing this package enters all of them into the table."""

from onebit.packing.foreign import activations, gpt2, timm, vit

__all__ = ["activations", "gpt2", "timm", "vit"]
