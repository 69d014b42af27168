"""What each kind of layer becomes in a program, a module for each family. Importing this package enters all of them into the table."""

from onebit.packing.layers import (
    activation,
    attention,
    conv,
    dense,
    embedding,
    exits,
    norm,
    pooling,
    recurrent,
    volumes,
)

__all__ = ["activation", "attention", "conv", "dense", "embedding", "exits", "norm", "pooling", "recurrent", "volumes"]
