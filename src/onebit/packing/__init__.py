"""A trained PyTorch model to a packed file: latents dropped, bits kept."""

from onebit.packing.pack import PackReport, pack, to_packed_model

__all__ = ["PackReport", "pack", "to_packed_model"]
