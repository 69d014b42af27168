"""Convert the layers of any PyTorch model to binary layers, and back."""

from onebit.conversion.convert import convert
from onebit.conversion.report import ConversionReport, LayerReport
from onebit.conversion.restore import to_float

__all__ = ["ConversionReport", "LayerReport", "convert", "to_float"]
